// What the reader does, and what follows.

import { $, bars, card, chip, names, percent, place, similar, views } from "./draw.js";
import { ask, needKey, pictureURL, say } from "./server.js";

const info = ask("info").then((response) => response.json());
let shown; // the chosen picture: {file, url, chip, result}, and promises of what was asked
let mapped = null; // id of the class whose map lies over it

/** Takes files in: shows the first, asks about all, one after the other. */
async function give(files) {
  const fresh = [...files].map((file) => ({ file, url: URL.createObjectURL(file) }));
  if (!fresh.length) return;
  for (const picture of fresh) {
    picture.chip = chip(picture.file.name, picture.url);
    picture.chip.onchange = () => show(picture);
    $("strip").append(picture.chip);
  }
  $("strip").hidden = $("strip").querySelectorAll("label").length < 2;
  fresh[0].chip.querySelector("input").checked = true;
  await show(fresh[0]);
  for (const picture of fresh.slice(1)) await answer(picture).catch(() => {});
}

/** What `request` promises about a picture; made once, unless it fails. */
function once(picture, question, request) {
  picture[question] ??= request().catch((problem) => {
    delete picture[question];
    throw problem;
  });
  return picture[question];
}

const answer = (picture) => once(picture, "answer", async () => {
  const name = picture.chip.querySelector(".name");
  const start = performance.now();
  try {
    const [result] = (await (await ask("classify?detail=views", picture.file)).json()).results;
    if (result.problem) throw new Error(result.problem.detail);
    picture.seconds = ((performance.now() - start) / 1000).toFixed(1);
    name.textContent = names(result.guesses[0].label)[0];
    return result;
  } catch (problem) {
    name.textContent = "no answer";
    throw problem;
  }
});

const neighbours = (picture) => once(picture, "neighbours", async () => {
  const found = (await (await ask("similar", picture.file)).json()).neighbours;
  return Promise.all(found.map(async (one) => ({ ...one, url: await pictureURL(one.thumbnail) })));
});

const map = (picture, id) => once(picture, `map of ${id}`, () =>
  pictureURL(`explain?label=${encodeURIComponent(id)}`, picture.file));

async function show(picture) {
  shown = picture;
  document.body.classList.add("given");
  $("result").className = "waiting";
  $("result").hidden = false;
  for (const list of ["bars", "frames", "neighbours"]) $(list).replaceChildren();
  $("whose").textContent = "Asking …";
  $("views").hidden = $("similar").hidden = true;
  uncover();
  $("photo").src = picture.url;
  $("photo").alt = picture.file.name;
  say(`Asking about ${picture.file.name} …`);
  await telling(picture, async () => {
    const [result, { picture: rule, similar: index }] =
      await Promise.all([answer(picture), info, $("photo").decode().catch(() => {})]);
    if (shown !== picture) return;
    const [best] = result.guesses;
    say(`${names(best.label)[0]}, ${percent(best.probability)}`, "answer");
    picture.result = result;
    $("result").className = "";
    $("plate").dataset.framing = rule.framing;
    views(result, $("photo"), rule.framing);
    $("views").hidden = false;
    uncover();
    $("views").querySelector("[value=mean]").checked = true;
    look();
    if (!index) return;
    $("similar").hidden = false;
    const found = await neighbours(picture);
    if (shown === picture) similar(found);
  });
}

/** Does `work`; says what goes wrong, unless another picture is shown by then. */
async function telling(picture, work) {
  try {
    await work();
  } catch (problem) {
    if (shown !== picture) return;
    say(`${picture.file.name}: ${problem.message}`, "problem");
    $("result").hidden = !picture.result;
  }
}

/** Shows the vote of the view that `radio` stands for, or the mean: by default the checked one. */
function look(radio = $("views").querySelector(":checked")) {
  const vote = shown.result.votes[radio.value];
  $("plate").classList.toggle("one", Boolean(vote));
  [...$("frames").children].forEach((frame, index) =>
    frame.classList.toggle("active", String(index) === radio.value));
  bars(vote ? `One view: ${place(vote)}` : "The mean of ten views", (vote ?? shown.result).guesses);
  press();
}

/** Lays the map of a class over the photograph. */
async function cover(id, name) {
  const picture = shown;
  mapped = id;
  press();
  $("plate").classList.add("waiting");
  await telling(picture, async () => {
    const url = await map(picture, id);
    if (shown !== picture || mapped !== id) return;
    $("map").src = url;
    $("map").hidden = false;
    $("caption").textContent = `What speaks for ${name}: covered, its probability falls.`;
    $("plate").scrollIntoView({ block: "nearest" });
  });
  if (mapped === id) $("plate").classList.remove("waiting");
}

function uncover() {
  mapped = null;
  press();
  $("map").hidden = true;
  const { file, seconds } = shown;
  $("caption").textContent = file.name + (seconds ? `, answered in ${seconds} s` : "");
  $("plate").classList.remove("waiting");
}

function press() {
  for (const where of $("bars").querySelectorAll(".where"))
    where.setAttribute("aria-pressed", where.value === mapped);
}

$("bars").onclick = ({ target }) => {
  const where = target.closest(".where");
  if (!where) return;
  $("views").querySelector("[value=mean]").checked = true;
  if (where.value === mapped) uncover();
  else cover(where.value, where.parentElement.querySelector(".name").textContent);
  look();
};

$("views").onchange = () => look();
$("views").onmouseover = ({ target }) => look(target.closest("label")?.firstElementChild);
$("views").onmouseleave = () => look();

$("frames").onmousemove = ({ offsetX, offsetY, currentTarget: { clientWidth } }) => {
  const [x, y] = [offsetX / clientWidth, offsetY / clientWidth];
  const far = shown.result.votes.slice(0, 5).map(({ left, top, side }) =>
    Math.hypot(left / (1 - side) - x, top / (1 - side) - y));
  look($("views").querySelector(`[value="${far.indexOf(Math.min(...far))}"]`));
};
$("frames").onmouseleave = () => look();

for (const input of document.querySelectorAll("[type=file]"))
  input.onchange = () => {
    give([...input.files]);
    input.value = ""; // the same file may be given again
  };
document.onpaste = ({ clipboardData }) => give(clipboardData.files);
const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
document.ondragover = (event) => {
  if (!carriesFiles(event)) return;
  event.preventDefault();
  document.body.classList.add("over");
};
document.ondragleave = ({ relatedTarget }) => {
  if (!relatedTarget) document.body.classList.remove("over");
};
document.ondrop = (event) => {
  document.body.classList.remove("over");
  if (!carriesFiles(event)) return;
  event.preventDefault();
  give(event.dataTransfer.files);
};

try {
  const about = await info;
  card(about);
  if (about.keys) needKey();
  $("kernels").src = await pictureURL("kernels.png");
} catch (problem) {
  say(problem.message, "problem");
}
