export function render(notes) {
  return notes.length ? notes.map(({ text }) => `- ${text}\n`).join("") : "no notes yet\n";
}
