// The part of the status page by which a machine that nobody has a key of is claimed: it
// asks for the token that the console shows, and shows the key that comes for it, once.
// Drawn by page.js with the rest.
"use strict";

/** What came for the token; it is nowhere else, and gone with the page. */
let claimed = null;

function drawClaim(s) {
  const place = document.getElementById("claim");
  if (claimed) return;
  if (s.access !== "unclaimed") return place.replaceChildren();
  // What somebody is typing stays.
  if (place.firstChild) return;
  const token = h("input", { id: "token", name: "token", required: "", autocomplete: "off",
    autocapitalize: "none", spellcheck: "false", placeholder: "0000-0000-0000-0000", maxlength: 40 });
  const said = h("p", { id: "claim-said", role: "status" });
  const form = h("form", { id: "claim-form" },
    h("label", { for: "token" }, "Token"), " ", token, " ", h("button", { type: "submit" }, "Claim it"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    claim(token.value, said);
  });
  place.replaceChildren(h("section", { class: "card", "aria-labelledby": "claim-name" },
    h("h2", { id: "claim-name" }, "Nobody has claimed this machine"),
    h("p", {}, "Its serial console and its screen show a token. Who enters it gets the first key; until then the network can see this page and no more."),
    form, said));
}

async function claim(token, said) {
  said.textContent = "asking …";
  try {
    const response = await fetch("/api/claim", { method: "POST", cache: "no-store",
      headers: { "content-type": "application/json" }, body: JSON.stringify({ token }),
      signal: AbortSignal.timeout(TIMEOUT_MS) });
    const answer = await response.json();
    if (!response.ok) throw new Error(answer.error.message);
    claimed = answer;
    document.getElementById("claim").replaceChildren(h("section", { class: "card" },
      h("h2", {}, "This machine is yours"),
      h("p", {}, `This is the key called ${answer.name}. It is shown this once: keep it now.`),
      h("pre", { id: "claimed-key", tabindex: 0 }, answer.key),
      h("p", { class: "small soft" }, "Editors send it as their API key.")));
  } catch (error) {
    said.textContent = sentence(error.message);
  }
}
