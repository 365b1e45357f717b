// The page of docs/verify. It gathers files, passes them to the verifier (WebAssembly, no imports), and shows the tree.
"use strict";

const at = (id) => document.getElementById(id);
const chosen = { evidence: [], endorsements: [] };
let verifier;

const decode = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));

function encode(bytes) {
  let text = "";
  for (let start = 0; start < bytes.length; start += 0x8000) {
    text += String.fromCharCode.apply(null, bytes.subarray(start, start + 0x8000));
  }
  return btoa(text);
}

async function load() {
  if (!globalThis.BAILEY_VERIFIER) {
    malformed("The verifier is not built yet: run `cargo xtask page` in the repository, and open this page again.");
    return;
  }
  verifier = (await WebAssembly.instantiate(decode(globalThis.BAILEY_VERIFIER), {})).instance.exports;
  document.body.dataset.ready = "true";
  ready();
}

// One request over the boundary: see crates/verify-page/src/boundary.rs for who owns which memory.
function ask(request) {
  const bytes = new TextEncoder().encode(JSON.stringify(request));
  const there = verifier.bailey_allocate(bytes.length);
  new Uint8Array(verifier.memory.buffer, there, bytes.length).set(bytes);
  const back = verifier.bailey_examine(there, bytes.length);
  const length = new DataView(verifier.memory.buffer).getUint32(back, true);
  const answer = new TextDecoder().decode(new Uint8Array(verifier.memory.buffer, back + 4, length));
  verifier.bailey_release(back);
  return JSON.parse(answer);
}

async function bytesOf(file) {
  return encode(new Uint8Array(await file.arrayBuffer()));
}

async function filesOf(files) {
  return Promise.all([...files].map(async (file) => ({ name: file.name, bytes: await bytesOf(file) })));
}

async function textOf(input) {
  const file = at(input).files[0];
  return file ? file.text() : null;
}

function time() {
  const text = at("at").value.trim();
  const milliseconds = text ? Date.parse(text) : Date.now();
  if (Number.isNaN(milliseconds)) throw new Error(`"${text}" is no time in RFC 3339`);
  return Math.floor(milliseconds / 1000);
}

async function verify() {
  try {
    const policy = at("policy").value === "file" ? await textOf("policy-file") : at("policy").value;
    if (policy === null) throw new Error("choose a policy file");
    const answer = ask({
      evidence: await bytesOf(chosen.evidence[0]),
      endorsements: await filesOf(chosen.endorsements),
      roots: await filesOf(at("roots").files),
      policy,
      reference: await textOf("reference"),
      report_data: at("report-data").value.trim() || null,
      at: time(),
    });
    answer.error ? malformed(answer.error) : show(answer);
  } catch (error) {
    malformed(error.message);
    // A verifier that failed is not asked again.
    if (error instanceof WebAssembly.RuntimeError) location.reload();
  }
}

function malformed(sentence) {
  banner("malformed", "Cannot be read");
  at("said").textContent = sentence;
  at("tree").replaceChildren();
  at("text").textContent = at("json").textContent = "";
}

function banner(kind, words) {
  at("result").hidden = false;
  at("result").dataset.kind = kind;
  at("banner").className = `banner ${kind}`;
  at("banner").textContent = words;
}

function show(answer) {
  const verdict = JSON.parse(answer.verdict);
  const pieces = verdict.pieces ?? [verdict];
  const emulated = verdict.emulated === true;
  const words = [answer.accepted ? "✓ accepted" : "✗ refused"];
  if (emulated) words.push("EMULATED, not hardware");
  banner(answer.accepted ? (emulated ? "emulated" : "accepted") : "refused", words.join(" · "));
  const said = [`${verdict.platform}, policy “${verdict.policy}”, at ${verdict.at}.`];
  if (pieces.some((piece) => !piece.workload_checked)) said.push("This does not say whose workload it is: no reference values were given.");
  if (answer.passed_over.length) said.push(`No Endorsements: ${answer.passed_over.join(", ")}.`);
  at("said").textContent = said.join(" ");
  const groups = pieces.flatMap((piece) => piece.label ? [group(piece)] : piece.checks.map(check));
  at("tree").replaceChildren(...groups);
  at("text").textContent = answer.text;
  at("json").textContent = answer.verdict;
}

function group(piece) {
  const outcome = piece.verdict === "accepted" ? "passed" : "failed";
  return check({ name: piece.label, outcome, text: piece.platform, checks: piece.checks });
}

const MARKS = { passed: "✓", failed: "✗", warned: "!", skipped: "–" };

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function check(one) {
  const item = element("li", one.outcome);
  const line = [element("span", "mark", MARKS[one.outcome]), element("span", "name", one.name), " ", element("span", "", one.text)];
  if (one.code) line.push(" ", element("span", "code", one.code));
  if (!one.checks?.length) {
    item.append(...line, facts(one));
    return item;
  }
  const details = element("details", one.outcome);
  details.open = one.outcome !== "passed";
  const summary = element("summary");
  summary.append(...line);
  const list = element("ul");
  list.append(...one.checks.map(check));
  details.append(summary, facts(one), list);
  item.append(details);
  return item;
}

function facts(one) {
  const list = element("dl");
  for (const name of ["expected", "observed", "mend"]) {
    if (one[name]) list.append(element("dt", "", name === "observed" ? "seen" : name), element("dd", "", one[name]));
  }
  return list;
}

function choose(kind, files) {
  chosen[kind] = kind === "evidence" ? [...files].slice(0, 1) : [...chosen[kind], ...files];
  at(`files-${kind}`).replaceChildren(...chosen[kind].map((file) => line(kind, file)));
  changed();
}

function line(kind, file) {
  const item = element("li", "", `${file.name} · ${file.size} bytes`);
  const remove = element("button", "remove", "×");
  remove.setAttribute("aria-label", `remove ${file.name}`);
  // What it lies on opens the dialog for files.
  remove.addEventListener("keydown", (event) => event.stopPropagation());
  remove.addEventListener("click", (event) => {
    event.stopPropagation();
    chosen[kind] = chosen[kind].filter((other) => other !== file);
    item.remove();
    changed();
  });
  item.append(remove);
  return item;
}

// A verdict is of what was asked; what is asked now is something else.
function changed() {
  at("result").hidden = true;
  delete at("result").dataset.kind;
  ready();
}

function ready() {
  at("verify").disabled = !(verifier && chosen.evidence.length);
}

for (const zone of document.querySelectorAll(".drop")) {
  const kind = zone.dataset.kind;
  const input = at(kind);
  zone.addEventListener("click", () => input.click());
  zone.addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === " ") input.click(); });
  input.addEventListener("click", (event) => event.stopPropagation());
  input.addEventListener("change", () => { choose(kind, input.files); input.value = ""; });
  zone.addEventListener("dragover", (event) => { event.preventDefault(); zone.classList.add("over"); });
  zone.addEventListener("dragleave", () => zone.classList.remove("over"));
  zone.addEventListener("drop", (event) => {
    event.preventDefault();
    zone.classList.remove("over");
    choose(kind, event.dataTransfer.files);
  });
}
document.addEventListener("input", changed);
at("policy").addEventListener("change", () => { at("policy-label").hidden = at("policy").value !== "file"; });
at("verify").addEventListener("click", verify);
load();
