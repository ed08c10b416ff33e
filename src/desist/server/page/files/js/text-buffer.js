// What was said in a run, by speaker. Kept in pieces of some size, so that a word more neither copies nor lays out all.

const PIECE = 4000; // characters of a piece that is full; it ends with the next line

/** Return a speaker's text without what it only thought. A piece that is a block of lines has lost its last newline. */
export const heard = (speaker) =>
  speaker.pieces
    .filter((piece) => !piece.reasoning)
    .map((piece) => (piece.block ? `${piece.text}\n` : piece.text))
    .join("");

/** The texts of a run; `changed` counts, so that whoever shows them knows what is new. */
export class Texts {
  constructor() {
    this.speakers = new Map();
    this.changed = 0;
  }

  of({ key, name, step }) {
    let found = this.speakers.get(key);
    if (!found) {
      found = { key, name, step, pieces: [], length: 0, thinks: false, cut: "", changed: 0 };
      this.speakers.set(key, found);
    }
    return found;
  }

  /** Somebody says something more. */
  add(who, text, reasoning = false) {
    const speaker = this.of(who);
    speaker.length += text.length;
    speaker.changed = ++this.changed;
    const last = speaker.pieces.at(-1);
    if (!last || last.reasoning !== reasoning || last.block) {
      speaker.pieces.push({ text, reasoning, block: false });
      return;
    }
    const cut = last.text.length > PIECE && !reasoning ? endOfLine(text) : -1;
    if (cut < 0) {
      last.text += text;
      return;
    }
    last.text += text.slice(0, cut);
    last.block = true;
    if (cut + 1 < text.length) speaker.pieces.push({ text: text.slice(cut + 1), reasoning, block: false });
  }

  /** This is all that somebody has said. `cut`: the words for an end that is not its own. Without a text of its own, a workflow repeats. */
  whole(who, content, cut) {
    const text = typeof content === "string" ? content : content == null ? "" : JSON.stringify(content, null, 2);
    const known = this.speakers.get(who.key);
    if (known) {
      if (text && heard(known) !== text) {
        known.pieces = [...known.pieces.filter((piece) => piece.reasoning), { text, reasoning: false, block: false }];
        known.length = text.length;
      }
    } else if (text && !this.repeats(text)) {
      this.add(who, text);
    }
    const speaker = this.speakers.get(who.key) ?? this.only();
    if (speaker && cut) speaker.cut = cut;
    if (speaker) speaker.changed = ++this.changed;
  }

  repeats(text) {
    return [...this.speakers.values()].some((one) => {
      const said = heard(one);
      return said === text || (text.length < 100_000 && text.includes(said) && said !== "");
    });
  }

  only() {
    return this.speakers.size === 1 ? this.speakers.values().next().value : null;
  }
}

/** Return where the last line ends, before all of its newlines; -1: it doesn't. */
function endOfLine(text) {
  let at = text.lastIndexOf("\n");
  while (at > 0 && text[at - 1] === "\n") at--;
  return at;
}
