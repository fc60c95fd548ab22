// The part of the status page that shows repositories of code: how far each is
// indexed, and how long it will take. Drawn by page.js with the rest.
"use strict";

function drawCode(s) {
  const all = s.index.repositories;
  if (!all.length) return show("code");
  show("code", h("section", { class: "card", "aria-labelledby": "code-name" },
    h("h2", { id: "code-name" }, "Code"),
    s.index.held
      ? h("p", { class: "small warn-text" }, `Indexing stands still while the board is held back: ${s.index.held_because}.`)
      : null,
    all.map(repository), vectors(s.index.vectors)));
}

function vectors(v) {
  if (!v) return h("p", { class: "small soft" }, "No embedder is installed, so search goes by words alone.");
  const what = {
    made: null,
    yielding: "answers go first",
    held: "waits until the board is not held back any more",
    resting: `stopped: ${v.reason}`,
    embedding: known(v.left_s) ? `about ${duration(v.left_s)} left` : "time left unknown",
  }[v.state];
  return h("p", { class: "small soft" }, `Vectors by ${v.model}: ${number(v.made)} of ${number(v.made + v.left)} texts`,
    what ? `, ${what}` : null,
    v.former ? `; questions go to the vectors by ${v.searched} until these are made` : null);
}

function repository(one) {
  const name = one.name ?? "a private repository";
  const counts = [
    known(one.files) ? count(one.files, "file", "files") : "files unknown",
    known(one.chunks) ? count(one.chunks, "chunk", "chunks") : "chunks unknown",
    one.skipped ? `${number(one.skipped)} passed over` : null,
  ].filter(Boolean).join(" · ");
  return h("div", {}, h("p", {}, h("strong", {}, name), " ", repositoryState(one)),
    one.state === "indexing"
      ? h("progress", known(one.of) && one.of > 0
        ? { max: one.of, value: one.looked_at, "aria-label": `share of ${name} that was looked at` }
        : { "aria-label": `how far ${name} is is unknown` })
      : null,
    one.not_fetched && one.state !== "failed"
      ? h("p", { class: "small warn-text" }, `The newest commit was not fetched: ${one.not_fetched}`)
      : null,
    h("p", { class: "small soft" }, counts,
      known(one.passed_at) ? `, last gone over ${when(one.passed_at)}` : null, brought(one),
      known(one.unwatched) ? `, edits are found by the next whole pass: ${one.unwatched}` : null));
}

/** Which files are here, where they came from elsewhere. */
function brought(one) {
  if (one.from === "path" || !known(one.brought_at)) return null;
  const what = one.from === "upload" ? "sent" : one.revision ? `commit ${one.revision.slice(0, 12)} fetched` : "fetched";
  return `, ${what} ${when(one.brought_at)}, ${bytes(one.brought_bytes)}`;
}

function repositoryState(one) {
  if (one.state === "failed") return h("span", { class: "bad-text" }, `failed: ${one.reason ?? "its owner sees why"}`);
  if (one.state === "fetching") return "is being fetched";
  if (one.state !== "indexing") return one.state === "waiting" ? "waits for its turn" : "is indexed";
  return ["is being indexed", known(one.of) ? `${number(one.looked_at)} of ${number(one.of)} files` : null,
    known(one.left_s) ? `about ${duration(one.left_s)} left` : "time left unknown"].filter(Boolean).join(", ");
}
