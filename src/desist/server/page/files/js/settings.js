// Who the user is, what tokens cost, and the token that the server asks for.

import { Problem, door } from "./api.js";
import { field, openDialog } from "./dialog.js";
import { h } from "./dom.js";
import { likes, token } from "./local-storage.js";

let asking = null;
let left = false; // the user closed the dialog: it doesn't come again by itself

/** Ask for a token, once for all who wait. `wrong`: one was shown that the server doesn't know. */
door.ask = (wrong) => {
  if (left) return Promise.reject(noToken());
  asking ??= askForToken(wrong).finally(() => (asking = null));
  return asking;
};

/** Ask for a token again, because the user wants to give one. */
export function unlock() {
  left = false;
  return door.ask(false);
}

const noToken = () => new Problem(401, { detail: "Without a token this server shows nothing." });

function askForToken(wrong) {
  return new Promise((done, fail) => {
    const secret = h("input", {
      type: "password",
      autocomplete: "off",
      required: true,
      spellcheck: false,
      name: "token",
    });
    let given = false;
    const { close, problem } = openDialog({
      title: "This server asks for a token",
      body: field("Token", secret, "It is kept for this tab only, and forgotten when the tab is closed."),
      actions: h("button", { type: "submit", class: "main" }, "Go on"),
      submit: () => {
        const said = secret.value.trim();
        if (!/^[\x21-\x7e]+$/.test(said)) throw new Error("A token has letters, digits and signs only.");
        token.set(said);
        given = true;
        close();
      },
      closed: () => {
        left = !given;
        dispatchEvent(new Event("desist-token"));
        if (given) done();
        else fail(noToken());
      },
    });
    if (wrong) problem(new Error("The server doesn't know this token."));
  });
}

/** Whether the user has closed the dialog without a token. */
export const isLocked = () => left;

/** Open the settings. */
export function openSettings() {
  const { by, input, output } = likes.get();
  const name = h("input", { type: "text", value: by, maxLength: 100, autocomplete: "name" });
  const price = (value) => h("input", { type: "number", min: "0", step: "any", inputMode: "decimal", value });
  const [paid, got] = [price(input), price(output)];
  const { close } = openDialog({
    title: "Settings",
    body: [
      field("Your name", name, "Stands in the record of what you stop."),
      h("div", { class: "pair" }, field("A million tokens in", paid), field("A million tokens out", got)),
      h(
        "p",
        { class: "hint" },
        "With prices the page shows what a run costs, in whatever currency they are. The server doesn't know them.",
      ),
      token.get()
        ? h("button", { type: "button", onclick: () => (token.set(""), location.reload()) }, "Forget the token")
        : null,
    ],
    actions: h("button", { type: "submit", class: "main" }, "Save"),
    submit: () => {
      likes.set({ by: name.value.trim(), input: paid.value, output: got.value });
      close();
    },
  });
}
