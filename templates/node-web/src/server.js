// A list of notes over HTTP: POST /notes adds one, GET /notes shows them.
import { createServer } from "node:http";
import pg from "pg";
import { render } from "./render.js";

const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL });
await pool.query("CREATE TABLE IF NOT EXISTS notes (id serial PRIMARY KEY, text text NOT NULL)");

async function body(request) {
  const parts = [];
  for await (const part of request) parts.push(part);
  return Buffer.concat(parts).toString();
}

async function answer(request) {
  if (request.url === "/health") {
    await pool.query("SELECT 1");
    return [200, "ok\n"];
  }
  if (request.url !== "/notes") return [404, "there is /notes\n"];
  if (request.method === "POST") {
    await pool.query("INSERT INTO notes (text) VALUES ($1)", [await body(request)]);
  }
  const { rows } = await pool.query("SELECT text FROM notes ORDER BY id");
  return [200, render(rows)];
}

const server = createServer(async (request, response) => {
  const [status, text] = await answer(request).catch((error) => [500, `${error.message}\n`]);
  response.writeHead(status, { "content-type": "text/plain" }).end(text);
});
server.listen(3000, () => console.log("listening on 3000"));
process.on("SIGTERM", () => server.close(() => process.exit(0)));
