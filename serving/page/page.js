// What the reader does, and what follows.

import { $, bars, card, chip, names, none, percent, place, similar, views } from "./draw.js";
import { ask, needKey, imageURL, say } from "./server.js";
import { csv } from "./table.js";

const info = ask("info").then((response) => response.json());
const given = []; // all images: {file, url, chip, result or problem, least}, promises of what was asked
let shown; // the chosen one
let mapped; // id of the class whose map lies over it

/** Takes files in: shows the first, asks about all, one after the other. */
async function give(files) {
  const fresh = [...files].map((file) => ({ file, url: URL.createObjectURL(file) }));
  if (!fresh.length) return;
  for (const image of fresh) {
    image.chip = chip(image.file.name, image.url);
    image.chip.onchange = () => show(image);
    $("strip").append(image.chip);
    given.push(image);
  }
  $("strip").hidden = given.length < 2;
  count();
  fresh[0].chip.firstElementChild.checked = true;
  await show(fresh[0]);
  for (const image of fresh.slice(1)) await answer(image).catch(() => {});
}

/** What `request` promises about an image; made once, unless it fails. */
function once(image, question, request) {
  image[question] ??= request().catch((problem) => {
    delete image[question];
    throw problem;
  });
  return image[question];
}

const answer = (image) => once(image, "answer", async () => {
  const name = image.chip.querySelector(".name");
  const start = performance.now();
  try {
    const response = await ask("classify?detail=views", image.file);
    const { results: [result], min_probability: least } = await response.json();
    image.seconds = ((performance.now() - start) / 1000).toFixed(1);
    name.textContent = result.none_of_these ? "none of these" : names(result.guesses[0].label)[0];
    Object.assign(image, { result, least, problem: undefined });
    return result;
  } catch (problem) {
    name.textContent = "no answer";
    image.problem = problem.message;
    throw problem;
  } finally {
    count();
  }
});

/** Offers the table where there are several images; says how many of them are in it. */
function count() {
  const rows = given.filter(({ result, problem }) => result || problem).length;
  $("table").hidden = given.length < 2 || !rows;
  $("table").querySelector("[role=status]").textContent =
    rows < given.length ? `${rows} of ${given.length} so far` : `${rows} photographs`;
}

$("table").firstElementChild.onclick = () => {
  const url = URL.createObjectURL(csv(given.filter(({ result, problem }) => result || problem)));
  Object.assign(document.createElement("a"), { href: url, download: "answers.csv" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000); // the browser has read it by then
};

const neighbours = (image) => once(image, "neighbours", async () => {
  const found = (await (await ask("similar", image.file)).json()).neighbours;
  return Promise.all(found.map(async (one) => ({ ...one, url: await imageURL(one.thumbnail) })));
});

const map = (image, id) => once(image, `map of ${id}`, () =>
  imageURL(`explain?label=${encodeURIComponent(id)}`, image.file));

/** Does `work` about an image; says what goes wrong, unless another is shown by then. */
async function telling(image, work) {
  try {
    await work();
  } catch (problem) {
    if (shown === image) say(`${image.file.name}: ${problem.message}`, "problem");
  }
}

async function show(image) {
  shown = image;
  document.body.classList.add("given");
  $("result").className = "waiting";
  $("result").hidden = false;
  cover();
  $("photo").src = image.url;
  $("photo").alt = image.file.name;
  say(`Classifying ${image.file.name} …`);
  await telling(image, async () => {
    const [result, { picture: { framing }, similar: index }] =
      await Promise.all([answer(image), info, $("photo").decode().catch(() => {})]);
    if (shown !== image) return;
    const [{ label, probability }] = result.guesses;
    const said = `${names(label)[0]}, ${percent(probability)}`;
    say(result.none_of_these ? `None of these; the best guess is ${said}` : said, "answer");
    $("plate").dataset.framing = framing;
    views(result, $("photo"), framing);
    cover();
    look(check("mean"));
    similar([]);
    $("similar").hidden = !index;
    $("result").className = "";
    if (!index) return;
    const found = await neighbours(image);
    if (shown === image) similar(found);
  });
  if (shown === image) $("result").hidden = !image.result;
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
  none(vote ? { guesses: vote.guesses } : shown.result, shown.least);
  press();
}

/** Lays the map of a class over the photograph; without one, uncovers it. */
async function cover(id, name) {
  const image = shown;
  mapped = id;
  press();
  $("map").hidden = true;
  $("plate").classList.toggle("waiting", Boolean(id));
  $("caption").textContent =
    image.file.name + (image.seconds ? `, answered in ${image.seconds} s` : "");
  if (!id) return;
  await telling(image, async () => {
    const url = await map(image, id);
    if (shown !== image || mapped !== id) return;
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
  $("kernels").src = await imageURL("kernels.png");
} catch (problem) {
  say(problem.message, "problem");
}
