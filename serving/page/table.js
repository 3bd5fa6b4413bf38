// Answers to a table for spreadsheets (RFC 4180). Nothing here asks the server.

const GUESSES = 5;
const HEAD = ["file", "none_of_these", "problem",
  ...Array.from({ length: GUESSES }, (_, place) =>
    ["id", "label", "probability"].map((name) => `${name}_${place + 1}`)).flat()];

/** A spreadsheet would compute text that begins so: an apostrophe makes it text. */
const harmless = (text) => (/^[=+\-@\t\r]/.test(text) ? `'${text}` : text);

const cell = (value) => (typeof value === "string"
  ? `"${harmless(value).replaceAll('"', '""')}"` : String(value ?? ""));

const row = ({ file, result, problem }) => [file.name, result?.none_of_these, problem,
  ...(result?.guesses ?? []).flatMap(({ id, label, probability }) => [id, label, probability])];

/** One row for each image that has been answered or refused; text in quotes, shares from 0 to 1. */
export function csv(images) {
  const lines = [HEAD, ...images.map(row)].map((values) =>
    Array.from(HEAD, (_, column) => cell(values[column])).join(","));
  // By the mark at its beginning, Excel takes it for UTF-8.
  return new Blob(["\ufeff", lines.join("\r\n"), "\r\n"], { type: "text/csv;charset=utf-8" });
}
