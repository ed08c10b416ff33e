// What is wrong with what is seen: names, contrast, sizes, width, ids, headings. Returns words, or nothing.
() => {
  const found = [];
  const top = document.querySelector("dialog[open]") ?? document.body;
  const shown = (node) => node.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true })
    && node.getClientRects().length > 0 && !node.closest(".unseen, [hidden], svg");
  const called = (node) => node.getAttribute("aria-label") || node.labels?.[0]?.textContent.trim() || node.textContent.trim()
    || node.closest("label")?.textContent.trim() || node.getAttribute("aria-labelledby");

  // everything that can be used has a name, and can be hit
  for (const node of top.querySelectorAll("button, a[href], input, select, textarea, summary, [role=tab], [tabindex='0']")) {
    if (!shown(node)) continue;
    if (!called(node)) found.push(`no name: ${node.outerHTML.slice(0, 120)}`);
    const box = (node.closest("label") ?? node).getBoundingClientRect();
    const inline = getComputedStyle(node).display === "inline";
    if (!inline && (box.width < 24 || box.height < 20)) found.push(`small: ${box.width} x ${box.height} ${node.outerHTML.slice(0, 120)}`);
  }

  // what is written can be read
  const rgb = (text) => {
    const canvas = new OffscreenCanvas(1, 1).getContext("2d");
    canvas.fillStyle = text;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const known = new Map();
  const colour = (text) => known.get(text) ?? known.set(text, rgb(text)).get(text);
  const behind = (node) => {
    let over = [];
    for (let at = node; at; at = at.parentElement) {
      const [r, g, b, a] = colour(getComputedStyle(at).backgroundColor);
      if (a) over.push([r, g, b, a / 255]);
      if (a === 255) break;
    }
    return over.reverse().reduce((under, [r, g, b, a]) => [r, g, b].map((one, k) => one * a + under[k] * (1 - a)), [255, 255, 255]);
  };
  const light = (c) => {
    const [r, g, b] = c.map((one) => one / 255).map((one) => (one <= 0.03928 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  for (const node of top.querySelectorAll("*")) {
    const own = [...node.childNodes].some((one) => one.nodeType === 3 && one.data.trim());
    if (!own || !shown(node) || node.closest(":disabled, .spared")) continue;
    const style = getComputedStyle(node);
    const [one, two] = [light(colour(style.color).slice(0, 3)), light(behind(node))].sort((a, b) => b - a);
    const ratio = (one + 0.05) / (two + 0.05);
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.6 && Number(style.fontWeight) >= 700);
    if (ratio < (large ? 3 : 4.5)) found.push(`contrast ${ratio.toFixed(2)}: ${node.textContent.trim().slice(0, 60)}`);
  }

  // nothing is wider than the screen
  if (document.documentElement.scrollWidth > innerWidth) found.push(`wide: ${document.documentElement.scrollWidth}`);

  // the frame
  const ids = [...document.querySelectorAll("[id]")].map((node) => node.id);
  for (const id of ids.filter((one, k) => ids.indexOf(one) !== k)) found.push(`id twice: ${id}`);
  if (document.querySelectorAll("h1").length !== 1) found.push("not one h1");
  if (document.documentElement.lang !== "en" || !document.title) found.push("no language or title");
  for (const node of document.querySelectorAll("[aria-controls], [aria-labelledby], [aria-describedby], [aria-activedescendant]"))
    for (const name of ["aria-controls", "aria-labelledby", "aria-describedby", "aria-activedescendant"])
      if (node.hasAttribute(name) && !document.getElementById(node.getAttribute(name))) found.push(`${name} leads nowhere`);
  return found;
}
