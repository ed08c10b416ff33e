// What was said in a run, by speaker. Kept in pieces of some size, so that a long text isn't copied for each word.

const PIECE = 4000; // characters of a piece that is full

/** The texts of a run; `changed` counts, so that whoever shows them knows what is new. */
export class Texts {
  constructor() {
    this.speakers = new Map();
    this.changed = 0;
  }

  of({ key, name, step }) {
    let found = this.speakers.get(key);
    if (!found) {
      found = { key, name, step, pieces: [], length: 0, thinks: false, cut: false, changed: 0 };
      this.speakers.set(key, found);
    }
    return found;
  }

  /** Somebody says something more. */
  add(who, text, reasoning = false) {
    const speaker = this.of(who);
    const last = speaker.pieces.at(-1);
    if (last && last.reasoning === reasoning && last.text.length < PIECE) last.text += text;
    else speaker.pieces.push({ text, reasoning });
    speaker.length += text.length;
    speaker.changed = ++this.changed;
  }

  /** This is all that somebody has said. `cut`: it was interrupted. Without a text of its own, a workflow repeats. */
  whole(who, content, cut) {
    const text = typeof content === "string" ? content : content == null ? "" : JSON.stringify(content, null, 2);
    const known = this.speakers.get(who.key);
    if (known) {
      const heard = known.pieces.filter((piece) => !piece.reasoning).map((piece) => piece.text).join("");
      if (text && heard !== text) {
        known.pieces = [...known.pieces.filter((piece) => piece.reasoning), { text, reasoning: false }];
        known.length = text.length;
      }
    } else if (text && !this.repeats(text)) {
      this.add(who, text);
    }
    const speaker = this.speakers.get(who.key) ?? this.only();
    if (speaker && cut) speaker.cut = true;
    if (speaker) speaker.changed = ++this.changed;
  }

  repeats(text) {
    return [...this.speakers.values()].some((one) => {
      const heard = one.pieces.filter((piece) => !piece.reasoning).map((piece) => piece.text).join("");
      return heard === text || (text.length < 100_000 && text.includes(heard) && heard !== "");
    });
  }

  only() {
    return this.speakers.size === 1 ? this.speakers.values().next().value : null;
  }
}
