// The part of the status page that shows a build: the engine that engine-builder
// is at, how far it is, or how the last one ended. Drawn by page.js with the rest.
"use strict";

/** How long a build that ended well is news. */
const BUILD_NEWS_S = 600;
/** A builder writes twice a second where it can count; some steps cannot. */
const BUILD_SILENT_S = 30;

const BUILDS = {
  running: ["Building", ""],
  cut: ["The build was cut short:", "bad-text"],
  built: ["Built", "good-text"],
  failed: ["The build failed:", "bad-text"],
  interrupted: ["The build was called off:", "warn-text"],
};

function drawBuild(s) {
  const build = s.build;
  const old = build?.state === "built" && s.at - build.ended.at > BUILD_NEWS_S;
  if (!build || old) return show("build");
  const [words, tone] = BUILDS[build.state] ?? [build.state, ""];
  show("build", h("section", { class: "card", "aria-labelledby": "build-name" },
    h("h2", { id: "build-name" }, "Build of an engine"),
    h("p", { class: tone }, `${words} `, h("strong", {}, build.engine)),
    build.state === "running" ? buildGoesOn(s, build) : buildEnded(build)));
}

function buildGoesOn(s, build) {
  const step = `Step ${number(build.step_number)} of ${number(build.steps)}, ${build.step}`;
  const [share, silent] = [build.share, s.at - build.updated];
  return [
    h("progress", known(share) ? { max: 1, value: share, "aria-label": "share of the step that is done" }
      : { "aria-label": "how much of the step is done is unknown" }),
    h("p", {}, [step, known(share) ? percent(share) : null,
      known(build.total_bytes) ? `${bytes(build.done_bytes)} of ${bytes(build.total_bytes)}` : null,
      known(build.left_s) ? `about ${duration(build.left_s)} left in this step` : null].filter(Boolean).join(" · ")),
    h("p", { class: "small soft" }, build.text ? `${sentence(build.text)}. ` : null,
      `Begun ${when(build.started)} by process ${build.pid}.`),
    silent > BUILD_SILENT_S ? h("p", { class: "small" }, `It has said nothing for ${duration(silent)}.`) : null,
  ];
}

function buildEnded(build) {
  const cut = build.state === "cut";
  const step = `It was at step ${number(build.step_number)} of ${number(build.steps)}, ${build.step}, `
    + `when it was last heard of ${when(build.updated)}. What serves goes on serving; `
    + "the next build goes on from what is complete.";
  return [
    build.text && !cut ? h("p", {}, sentence(build.text)) : null,
    h("p", { class: "small soft" }, cut ? step : `Ended ${when(build.ended.at)}.`),
  ];
}
