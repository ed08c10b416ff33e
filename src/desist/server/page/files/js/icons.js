// Pictures: a shape for every status, so that no colour has to be seen, and one for every kind of work.

import { picture } from "./dom.js";

const line = {
  fill: "none",
  stroke: "currentColor",
  "stroke-width": "1.6",
  "stroke-linecap": "round",
  "stroke-linejoin": "round",
};
const full = { fill: "currentColor" };

const STATUS = {
  PENDING: [{ el: "circle", cx: 8, cy: 8, r: 5, ...line, "stroke-dasharray": "2.6 2.6" }],
  RUNNING: [
    { el: "circle", cx: 8, cy: 8, r: 6.4, ...line, class: "ring", "stroke-width": "1.2" },
    { el: "circle", cx: 8, cy: 8, r: 3.6, ...full },
  ],
  PAUSED: [{ d: "M5 3.5v9M11 3.5v9", ...line, "stroke-width": "2.6" }],
  CANCELLING: [
    { el: "rect", x: 2.5, y: 2.5, width: 11, height: 11, rx: 2, ...line },
    { d: "M3 8h10v3.5a2 2 0 0 1-2 2H5a2 2 0 0 1-2-2z", ...full },
  ],
  CANCELLED: [{ el: "rect", x: 2.5, y: 2.5, width: 11, height: 11, rx: 2, ...full }],
  COMPLETED: [{ d: "M2.8 8.6l3.4 3.6 7-8", ...line, "stroke-width": "2.2" }],
  ERROR: [
    { d: "M8 1.6l6.8 12.2H1.2z", ...line },
    { d: "M8 6v3.6M8 11.8v.2", ...line },
  ],
  KEPT: [{ d: "M4 2.5h8v11l-4-3.2-4 3.2z", ...line }],
  ABANDONED: [
    { el: "circle", cx: 8, cy: 8, r: 6, ...line, "stroke-dasharray": "3 2.2" },
    { d: "M8 4.6v4M8 11v.2", ...line },
  ],
};

const KIND = {
  workflow: [{ d: "M2 4h5v4h7M7 8v4h7", ...line }],
  step: [{ d: "M3 8h9M9 5l3 3-3 3", ...line }],
  steps: [{ d: "M3 4h10M3 8h10M3 12h10", ...line }],
  parallel: [{ d: "M2 8h3M5 3.5h8M5 8h8M5 12.5h8M5 3.5v9", ...line }],
  loop: [{ d: "M13 8a5 5 0 1 1-1.8-3.8M13 2v3h-3", ...line }],
  iteration: [{ d: "M12 8a4 4 0 1 1-4-4", ...line }],
  condition: [{ d: "M8 2l6 6-6 6-6-6z", ...line }],
  router: [{ d: "M2 8h4l4-4h4M6 8l4 4h4", ...line }],
  agent: [
    { el: "circle", cx: 8, cy: 5, r: 2.6, ...line },
    { d: "M2.8 14c.4-3 2.5-4.6 5.2-4.6s4.800 1.600 5.2 4.600", ...line },
  ],
  model: [{ d: "M2.500 3h11v8h-6l-3 2.600v-2.600h-2z", ...line }],
  tool: [
    {
      d: "M10.600 2.400a3.400 3.400 0 0 0-3.300 4.700L2.600 11.800l1.700 1.700 4.700-4.700a3.400 3.400 0 0 0 4.400-4.400l-2.100 2.100-1.700-.400-.400-1.700z",
      ...line,
    },
  ],
};

const OTHER = {
  stop: [{ el: "rect", x: 3, y: 3, width: 10, height: 10, rx: 1.8, ...full }],
  more: [{ d: "M4 6l4 4 4-4", ...line, "stroke-width": "1.8" }],
  back: [{ d: "M10 3L5 8l5 5", ...line, "stroke-width": "1.8" }],
  open: [{ d: "M6 3l5 5-5 5", ...line, "stroke-width": "1.8" }],
  force: [{ d: "M9 1.500L3 9h4l-1 5.500L12.500 7H8z", ...full }],
  again: [{ d: "M4.500 2.500v11l8.500-5.500z", ...full }],
  copy: [
    { el: "rect", x: 5.5, y: 5.5, width: 8, height: 8, rx: 1.5, ...line },
    { d: "M10.500 3v-.500h-8v8H3", ...line },
  ],
  done: [{ d: "M2.8 8.6l3.4 3.6 7-8", ...line }],
  gear: [
    { d: "M2 4.500h7M12.500 4.500H14M2 11.500h1.500M7 11.500h7", ...line },
    { el: "circle", cx: 10.7, cy: 4.5, r: 1.8, ...line },
    { el: "circle", cx: 5.2, cy: 11.5, r: 1.8, ...line },
  ],
  plus: [{ d: "M8 3v10M3 8h10", ...line }],
  minus: [{ d: "M3.500 8h9", ...line }],
  close: [{ d: "M4 4l8 8M12 4l-8 8", ...line }],
};

/** Return the shape of a status. */
export const statusIcon = (status) => picture(STATUS[status] ?? STATUS.PENDING, `shape ${status}`);

/** Return the picture of a kind of work. */
export const kindIcon = (kind) => picture(KIND[kind] ?? KIND.step, "kind");

/** Return another picture. */
export const icon = (name) => picture(OTHER[name], "icon");
