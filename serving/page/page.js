// What the reader does, and what follows.

import { $, bars, card, chip, names, percent, place, similar, views } from "./draw.js";
import { ask, needKey, pictureURL, say } from "./server.js";

const info = ask("info").then((response) => response.json());
let shown; // the chosen picture: {file, url, chip, result}, and promises of what was asked
let mapped; // id of the class whose map lies over it

/** Takes files in: shows the first, asks about all, one after the other. */
async function give(files) {
  const fresh = [...files].map((file) => ({ file, url: URL.createObjectURL(file) }));
  if (!fresh.length) return;
  for (const picture of fresh) {
    picture.chip = chip(picture.file.name, picture.url);
    picture.chip.onchange = () => show(picture);
    $("strip").append(picture.chip);
  }
  $("strip").hidden = $("strip").children.length < 2;
  fresh[0].chip.firstElementChild.checked = true;
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
    const response = await ask("classify?detail=views", picture.file);
    const [result] = (await response.json()).results;
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

/** Does `work` about a picture; says what goes wrong, unless another is shown by then. */
async function telling(picture, work) {
  try {
    await work();
  } catch (problem) {
    if (shown === picture) say(`${picture.file.name}: ${problem.message}`, "problem");
  }
}

async function show(picture) {
  shown = picture;
  document.body.classList.add("given");
  $("result").className = "waiting";
  $("result").hidden = false;
  cover();
  $("photo").src = picture.url;
  $("photo").alt = picture.file.name;
  say(`Classifying ${picture.file.name} …`);
  await telling(picture, async () => {
    const [result, { picture: { framing }, similar: index }] =
      await Promise.all([answer(picture), info, $("photo").decode().catch(() => {})]);
    if (shown !== picture) return;
    const [{ label, probability }] = result.guesses;
    say(`${names(label)[0]}, ${percent(probability)}`, "answer");
    picture.result = result;
    $("plate").dataset.framing = framing;
    views(result, $("photo"), framing);
    cover();
    look(check("mean"));
    similar([]);
    $("similar").hidden = !index;
    $("result").className = "";
    if (!index) return;
    const found = await neighbours(picture);
    if (shown === picture) similar(found);
  });
  if (shown === picture) $("result").hidden = !picture.result;
}

/** Checks and returns the radio button of a view, or of the mean. */
function check(value) {
  const radio = $("views").querySelector(`[value="${value}"]`);
  radio.checked = true;
  return radio;
}

/** Shows the vote of the view that `radio` stands for, or the mean; by default of the checked. */
function look(radio = $("views").querySelector(":checked")) {
  const vote = shown.result.votes[radio.value];
  $("plate").classList.toggle("one", Boolean(vote));
  [...$("frames").children].forEach((frame, index) =>
    frame.classList.toggle("active", String(index) === radio.value));
  bars(vote ? `One view: ${place(vote)}` : "Average of ten views", (vote ?? shown.result).guesses);
  press();
}

/** Lays the map of a class over the photograph; without one, uncovers it. */
async function cover(id, name) {
  const picture = shown;
  mapped = id;
  press();
  $("map").hidden = true;
  $("plate").classList.toggle("waiting", Boolean(id));
  $("caption").textContent =
    picture.file.name + (picture.seconds ? `, answered in ${picture.seconds} s` : "");
  if (!id) return;
  await telling(picture, async () => {
    const url = await map(picture, id);
    if (shown !== picture || mapped !== id) return;
    $("map").src = url;
    $("map").hidden = false;
    $("caption").textContent = `Red parts speak for ${name}: covering them lowers its probability. `
      + "Blue parts speak against it.";
    $("plate").scrollIntoView({ block: "nearest" });
  });
  if (mapped === id) $("plate").classList.remove("waiting");
}

function press() {
  for (const where of $("bars").querySelectorAll(".where"))
    where.setAttribute("aria-pressed", where.value === mapped);
}

$("bars").onclick = ({ target }) => {
  const where = target.closest(".where");
  if (!where) return;
  const name = where.parentElement.querySelector(".name").textContent;
  if (where.value === mapped) cover();
  else cover(where.value, name);
  look(check("mean"));
};

$("views").onchange = () => look();
$("views").onmouseover = ({ target }) => look(target.closest("label")?.firstElementChild);
$("views").onmouseleave = () => look();
$("frames").onmouseleave = () => look();
$("frames").onmousemove = ({ offsetX, offsetY, currentTarget: { clientWidth } }) => {
  const [x, y] = [offsetX / clientWidth, offsetY / clientWidth];
  const far = shown.result.votes.slice(0, 5).map(({ left, top, side }) =>
    Math.hypot(left / (1 - side || 1) - x, top / (1 - side || 1) - y));
  look($("views").querySelector(`[value="${far.indexOf(Math.min(...far))}"]`));
};

for (const input of document.querySelectorAll("[type=file]"))
  input.onchange = () => {
    give([...input.files]);
    input.value = ""; // the same file may be given again
  };
document.onpaste = ({ clipboardData }) => give(clipboardData.files);
document.ondragover = (event) => {
  if (!event.dataTransfer.types.includes("Files")) return;
  event.preventDefault();
  document.body.classList.add("over");
};
document.ondragleave = ({ relatedTarget }) => {
  if (!relatedTarget) document.body.classList.remove("over");
};
document.ondrop = (event) => {
  document.body.classList.remove("over");
  if (!event.dataTransfer.files.length) return;
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
