// What happens to the document before anything is added to it.

import { translate } from "./words.js";

translate();
document.body.dataset.view = new URLSearchParams(location.search).get("view") ?? "page";
