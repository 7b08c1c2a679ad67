import assert from "node:assert";
import { test } from "node:test";
import { render } from "./render.js";

test("notes are a list", () => {
  assert.equal(render([{ text: "a" }, { text: "b" }]), "- a\n- b\n");
  assert.equal(render([]), "no notes yet\n");
});
