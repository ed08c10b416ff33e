// What the page remembers: the token for this tab only, how its user likes it for this browser. Nothing goes into URLs.

const TOKEN = "desist.token";
const LIKES = "desist.likes";
const FIRST = { by: "", input: "", output: "" };

/** The token that requests show, or "". */
export const token = {
  get: () => sessionStorage.getItem(TOKEN) ?? "",
  set: (secret) => (secret ? sessionStorage.setItem(TOKEN, secret) : sessionStorage.removeItem(TOKEN)),
};

/** Who the user is to others, and what a million tokens cost: { by, input, output }. */
export const likes = {
  get() {
    try {
      return { ...FIRST, ...JSON.parse(localStorage.getItem(LIKES) ?? "{}") };
    } catch {
      return { ...FIRST };
    }
  },
  set(values) {
    localStorage.setItem(LIKES, JSON.stringify(values));
    dispatchEvent(new Event("desist-likes"));
  },
};

/** Return what so many tokens cost at the user's prices, as text; "" where there are no prices. */
export function cost(used) {
  const { input, output } = likes.get();
  if (!used || (input === "" && output === "")) return "";
  const amount = ((used.input_tokens ?? 0) * Number(input) + (used.output_tokens ?? 0) * Number(output)) / 1e6;
  return amount.toFixed(amount < 0.1 ? 4 : 2);
}
