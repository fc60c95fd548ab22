// The part of the status page about what is remembered of chats and what was put into
// them: numbers only. What was said stands in no document that a page can ask for
// without its owner's key. Drawn by page.js with the rest.
"use strict";

function drawChats(s) {
  const m = s.memory;
  show("chats", h("section", { class: "card", "aria-labelledby": "chats-name" },
    h("h2", { id: "chats-name" }, "Conversations and receipts"),
    m.kept ? h("dl", { class: "facts" },
      fact("Conversations", or(m.conversations, number, m.reason)),
      fact("Messages", or(m.messages, number)),
      fact("Said in them", or(m.bytes, bytes)),
      fact("Kept for", `${count(m.kept_days, "day", "days")}, ${bytes(m.most_bytes)} at most`))
      : h("p", {}, "Nothing is remembered of chats: memory.kept_days is 0."),
    m.receipts.length ? m.receipts.map(receipt)
      : h("p", { class: "small soft" }, "No chat had code or memory since the start.")));
}

function receipt(one) {
  const parts = one.sections;
  const tokens = parts && Object.values(parts).reduce((sum, part) => sum + part, 0);
  const what = [
    known(one.code_added) ? `${number(one.code_added)} of code added, ${number(one.code_kept)} kept, ${number(one.code_left_out)} left out` : null,
    known(one.replaced) ? `${number(one.replaced)} messages replaced, ${number(one.masked)} masked, ${number(one.recalled)} recalled` : null,
    one.problems ? count(one.problems, "problem", "problems") : null,
  ].filter(Boolean).join(" · ");
  return h("p", { class: "small" }, h("strong", {}, when(one.at)), " ",
    parts ? `${number(tokens)} tokens: system ${number(parts.system)}, ledger ${number(parts.ledger)}, log ${number(parts.log)}, added ${number(parts.added)}, last turn ${number(parts.last_turn)}` : "tokens unknown",
    h("span", { class: "soft" }, what ? ` · ${what}` : ""));
}
