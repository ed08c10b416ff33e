// A list of any length: only the rows that are to be seen are elements. Rows have one height.

import { h, onFrame } from "./dom.js";

/**
 * Rows inside of `box`, which scrolls and has the focus; the row at hand is told by aria-activedescendant.
 *
 * `make()` returns a row's element, `fill(element, index)` shows one in it.
 */
export class VirtualList {
  constructor(box, { make, fill, height, role, onchoose }) {
    Object.assign(this, { box, make, fill, height, role, onchoose, count: 0, active: -1, follows: true });
    this.sheet = h("div", { class: "sheet", role: "presentation" });
    this.rows = [];
    box.replaceChildren(this.sheet);
    box.tabIndex = 0;
    this.draw = onFrame(() => this.drawNow());
    box.addEventListener("scroll", () => this.scrolled(), { passive: true });
    new ResizeObserver(() => this.draw()).observe(box);
  }

  /** There are so many rows now. */
  setCount(count) {
    this.count = count;
    this.draw();
  }

  /** Rows are so high now. */
  setHeight(height) {
    this.height = height;
    this.draw();
  }

  scrolled() {
    const { scrollTop, clientHeight, scrollHeight } = this.box;
    this.follows = scrollTop + clientHeight >= scrollHeight - this.height;
    this.draw();
  }

  drawNow() {
    this.sheet.style.height = `${this.count * this.height}px`;
    if (this.follows && this.sticks) this.box.scrollTop = this.box.scrollHeight;
    const first = Math.max(0, Math.floor(this.box.scrollTop / this.height) - 4);
    const last = Math.min(this.count, Math.ceil((this.box.scrollTop + this.box.clientHeight) / this.height) + 4);
    const wanted = last - first;
    while (this.rows.length < wanted) this.rows.push(this.newRow());
    while (this.rows.length > wanted) this.rows.pop().remove();
    for (let index = first; index < last; index++) {
      const row = this.rows[index % wanted];
      this.put(row, index);
      const there = this.sheet.children[index - first];
      if (there !== row) this.sheet.insertBefore(row, there); // in their order for who reads elements
    }
    if (this.active >= first && this.active < last)
      this.box.setAttribute("aria-activedescendant", this.idOf(this.active));
    else this.box.removeAttribute("aria-activedescendant");
  }

  newRow() {
    const row = this.make();
    row.addEventListener("click", () => this.choose(row.at));
    this.sheet.append(row);
    return row;
  }

  put(row, index) {
    row.at = index;
    row.id = this.idOf(index);
    row.style.transform = `translateY(${index * this.height}px)`;
    row.style.height = `${this.height}px`;
    row.setAttribute("aria-posinset", index + 1);
    row.setAttribute("aria-setsize", this.count);
    row.setAttribute("aria-selected", index === this.active);
    this.fill(row, index);
  }

  idOf(index) {
    return `${this.box.id}-${index}`;
  }

  /** Make a row the one at hand, and let it be seen. */
  choose(index) {
    if (index < 0 || index >= this.count) return;
    this.active = index;
    const top = index * this.height;
    const { scrollTop, clientHeight } = this.box;
    if (top < scrollTop) this.box.scrollTop = top;
    else if (top + this.height > scrollTop + clientHeight) this.box.scrollTop = top + this.height - clientHeight;
    this.draw();
    this.onchoose?.(index);
  }

  /** Do what a key asks for; return whether it was one of ours. */
  key(event) {
    const page = Math.max(1, Math.floor(this.box.clientHeight / this.height) - 1);
    const to = {
      ArrowDown: this.active + 1,
      ArrowUp: this.active - 1,
      Home: 0,
      End: this.count - 1,
      PageDown: Math.min(this.active + page, this.count - 1),
      PageUp: Math.max(this.active - page, 0),
    }[event.key];
    if (to === undefined) return false;
    event.preventDefault();
    this.choose(Math.max(0, to));
    return true;
  }
}
