// Two lines that show this server on another page.

import { say } from "./words.js";

/** Opens the dialog with the lines for the server that the client has joined. */
export function offerEmbedding(client) {
  const [dialog, lines, copy] = ["#embed", "#embed-lines", "#embed-copy"].map((each) =>
    document.querySelector(each),
  );
  document.querySelector("#embed-open").addEventListener("click", () => {
    const base = new URL(".", location.href);
    const file = new URL("page/v1/d-back-community.js", base);
    const server = client.server ?? "";
    const join = document.querySelector("#join")?.getAttribute("href").replaceAll("&", "&amp;");
    lines.value =
      `<script type="module" src="${file.origin}${file.pathname}"></script>\n` +
      `<d-back-community server="${server}"${join ? ` join="${join}"` : ""}></d-back-community>`;
    copy.textContent = say("Copy");
    dialog.showModal();
  });
  copy.addEventListener("click", async () => {
    lines.select();
    // Only pages with HTTPS, and those of this machine, have a clipboard.
    await navigator.clipboard?.writeText(lines.value);
    if (navigator.clipboard) copy.textContent = say("Copied");
  });
}
