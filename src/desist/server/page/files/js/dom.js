// Making and finding elements. Text is only ever set as text: nothing that a run says can become markup.

const SVG = "http://www.w3.org/2000/svg";

/** Return an element. Names with "on" are listeners, known properties are set, everything else is an attribute. */
export function h(tag, given = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "class") node.className = value;
    else if (typeof value === "object" || typeof value === "function") node[name] = value;
    else if (name in node && !name.startsWith("aria") && name !== "list" && name !== "form") node[name] = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== undefined && child !== null && child !== false));
  return node;
}

/** Set an element's text, unless it is that already: a reader's place in it stays. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Set or take an attribute. */
export function mark(node, name, value) {
  if (value === undefined || value === null || value === false) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value === true ? "" : value);
}

/** Return a picture made of paths in a 16 x 16 square, for eyes only. */
export function picture(paths, kind = "") {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("class", `picture ${kind}`);
  for (const given of paths) {
    const { el = "path", ...attributes } = given;
    const part = document.createElementNS(SVG, el);
    for (const [name, value] of Object.entries(attributes)) part.setAttribute(name, value);
    svg.append(part);
  }
  return svg;
}

/** Tell something to those who don't see the page. */
export function announce(text) {
  say(document.getElementById("said"), text);
}

/** Do something on the next frame, once, however often it is asked for. */
export function onFrame(work) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      work();
    });
  };
}

/** Call `work` every so many milliseconds while the page is seen, until the signal; not before the last call is done. */
export function every(milliseconds, work, signal) {
  let busy = false;
  const turn = async () => {
    if (document.hidden || busy) return;
    busy = true;
    try {
      await work();
    } finally {
      busy = false;
    }
  };
  const timer = setInterval(turn, milliseconds);
  document.addEventListener("visibilitychange", turn, { signal });
  signal.addEventListener("abort", () => clearInterval(timer));
}

/** Wait, unless the signal comes first. */
export function pause(milliseconds, signal) {
  return new Promise((done) => {
    const timer = setTimeout(done, milliseconds);
    signal?.addEventListener("abort", () => (clearTimeout(timer), done()), { once: true });
  });
}
