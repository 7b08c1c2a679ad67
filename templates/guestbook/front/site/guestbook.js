const form = document.getElementById("form");
const list = document.getElementById("entries");
const problem = document.getElementById("problem");

function item(entry) {
  const node = document.createElement("li");
  const head = document.createElement("header");
  const words = entry.words === null ? "not read yet" : `${entry.words} words`;
  head.textContent = `${entry.name}, ${new Date(entry.written * 1000).toLocaleString()}, ${words}`;
  const text = document.createElement("p");
  text.textContent = entry.message;
  node.append(head, text);
  return node;
}

async function refresh() {
  try {
    const answer = await fetch("/api/entries");
    const value = await answer.json();
    if (!answer.ok) throw new Error(value.error);
    document.getElementById("greeting").textContent = value.greeting;
    list.replaceChildren(...value.entries.map(item));
    problem.textContent = "";
  } catch (error) {
    problem.textContent = error.message;
  }
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const value = Object.fromEntries(new FormData(form));
  const answer = await fetch("/api/entries", { method: "POST", body: JSON.stringify(value) });
  if (answer.ok) form.elements.message.value = "";
  await refresh();
});

refresh();
setInterval(refresh, 2000);
