// Answers to elements. Nothing here asks the server.

export const $ = (id) => document.getElementById(id);
const PERCENT = new Intl.NumberFormat("en", { style: "percent", minimumFractionDigits: 1 });
export const percent = (share) => PERCENT.format(share).replace("%", "\u202f%");
const count = (number) => number.toLocaleString("en");
const square = (side) => `${side} × ${side}`;

/** ImageNet's "tench, Tinca tinca" -> ["tench", "Tinca tinca"]. */
export const names = (label) => label.split(/, (.*)/s, 2).concat("").slice(0, 2);

/** A copy of a <template>'s one element, `texts` filled in by class name. */
export function copy(template, texts = {}) {
  const element = $(template).content.firstElementChild.cloneNode(true);
  for (const [name, text] of Object.entries(texts))
    element.querySelector(`.${name}`).textContent = text;
  return element;
}

/** Five bars, as in the paper's Figure 4. Rows are kept, so that a bar glides to its new length. */
export function bars(title, guesses) {
  $("whose").textContent = title;
  guesses.forEach(({ id, label, probability }, place) => {
    const row = $("bars").children[place] ?? $("bars").appendChild(copy("bar"));
    const [name, also] = names(label);
    row.querySelector(".name").textContent = name;
    row.querySelector(".also").textContent = also;
    row.querySelector(".share").textContent = percent(probability);
    row.querySelector(".share").value = probability;
    row.querySelector(".track > *").style.width = `${100 * probability}%`;
    const where = row.querySelector(".where");
    where.value = id;
    where.setAttribute("aria-label", `Show where the image looks like ${name}`);
  });
}

/** Says that the best guess is too improbable for an answer, where the server does. */
export function none({ none_of_these: none, guesses: [best] }, least) {
  $("none").hidden = !none;
  $("none").textContent = none ? `None of these: the best guess has ${percent(best.probability)}, `
    + `and an answer needs ${percent(least)}.` : "";
}

/** "top left, mirrored". */
export function place({ left, top, side, mirrored }) {
  const far = (1 - side) / 2;
  const name = (at, low, high) => (at < far / 2 ? low : at > 1.5 * far ? high : "centre");
  const words = [name(top, "top", "bottom"), name(left, "left", "right")];
  return (words[0] === words[1] ? words[0] : words.join(" ")) + (mirrored ? ", mirrored" : "");
}

/** The ten crops below the photograph, and their frames upon it. */
export function views({ guesses: [winner], votes }, photo, framing) {
  const { naturalWidth: w, naturalHeight: h } = photo;
  const [wide, high] = framing === "squash" ? [w, h] : [Math.min(w, h), Math.min(w, h)];
  $("views").querySelectorAll(".view").forEach((old) => old.remove());
  $("frames").replaceChildren();
  votes.forEach((vote, index) => {
    const { left, top, side, mirrored, guesses: [best] } = vote;
    const [name] = names(best.label);
    const share = percent(best.probability);
    const view = copy("view", { share, name: best.id === winner.id ? "" : name });
    view.firstElementChild.value = index;
    view.firstElementChild.setAttribute("aria-label", `${place(vote)}: ${name}, ${share}`);
    const canvas = view.querySelector("canvas").getContext("2d");
    canvas.imageSmoothingQuality = "high";
    if (mirrored) canvas.setTransform(-1, 0, 0, 1, 160, 0);
    if (w) canvas.drawImage(photo, (w - wide) / 2 + left * wide, (h - high) / 2 + top * high,
      side * wide, side * high, 0, 0, 160, 160);
    $("views").append(view);

    const frame = document.createElement("div");
    frame.classList.toggle("mirrored", mirrored);
    Object.assign(frame.style, { left: `${100 * left}%`, top: `${100 * top}%`,
      width: `${100 * side}%`, height: `${100 * side}%` });
    $("frames").append(frame);
  });
}

/** One of several photographs, to be chosen. */
export function chip(name, url) {
  const element = copy("image", { name });
  const image = element.querySelector("img");
  image.onerror = () => image.replaceWith(document.createElement("canvas"));
  image.src = url;
  return element;
}

/** `url` is a neighbour's thumbnail, fetched. */
export function similar(neighbours) {
  $("neighbours").replaceChildren(...neighbours.map(({ label, distance, url }) => {
    const item = copy("neighbour", { name: names(label)[0], distance: distance.toFixed(1) });
    item.querySelector("img").src = url;
    return item;
  }));
}

/** The model card: what /info says, in words. */
export function card({ model, classes, dataset, accuracy, calibrated, trained_at, picture }) {
  $("calibrated").textContent = calibrated.includes(10)
    ? "The probabilities of the average are calibrated: of answers with 80\u202f%, about 80\u202f% "
      + "are right."
    : "The probabilities are not calibrated: how often answers are right may differ from them.";
  $("model").textContent = `${model.name}, step ${count(model.step)}`;
  const known = classes.map(({ name }) => names(name)[0]);
  const more = known.length - 10;
  $("knows").textContent = `This model knows ${count(known.length)} classes: `
    + known.slice(0, 10).join(", ") + (more > 0 ? ` and ${count(more)} more.` : ".");
  $("accuracy").replaceChildren(...accuracy.map(({ views, pictures, top1, top5, macro_top1: macro }) => copy("row", {
    views: views === 1 ? "one view" : "ten views",
    top1: percent(top1 / pictures), "top1-counts": `${count(top1)} of ${count(pictures)}`,
    "top1-macro": macro === null ? "" : `mean of the classes ${percent(macro)}`,
    top5: percent(top5 / pictures), "top5-counts": `${count(top5)} of ${count(pictures)}`,
  })));
  $("accuracy").parentElement.hidden = !accuracy.length;
  $("card").replaceChildren(...[
    ["Name", `${model.name}, training step ${count(model.step)}`],
    ["Input", `${square(picture.crop)} pixels, cut from ${square(picture.size)}`],
    ["Trained", trained_at?.slice(0, 10) ?? "not here: the weights were imported"],
    ["Training data", dataset ? `SHA-256 ${dataset.slice(0, 12)}…` : "unknown"],
    ["Weights", `SHA-256 ${model.sha256.slice(0, 12)}…`],
  ].map(([term, text]) => copy("fact", { term, text })));
  document.querySelector("summary").textContent = `All ${count(known.length)} classes`;
  $("classes").textContent = known.join(", ");
  document.querySelector("footer").hidden = false;
}
