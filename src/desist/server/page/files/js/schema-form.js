// A form made from a JSON schema, as pydantic writes them. What has no field of its own is asked for as JSON.

import { field } from "./dialog.js";
import { h } from "./dom.js";
import { icon } from "./icons.js";

/** Return { element, value() } for a schema. `value` raises what a person can mend. */
export function schemaForm(schema) {
  const form = new SchemaForm(schema.$defs ?? {});
  return form.object(schema, schema.title ?? "");
}

class SchemaForm {
  constructor(defs) {
    this.defs = defs;
  }

  /** Follow references, and take "or null" away: { schema, optional }. */
  plain(given) {
    let schema = given;
    let optional = false;
    for (let steps = 0; steps < 20; steps++) {
      if (schema.$ref) schema = { ...(this.defs[schema.$ref.split("/").pop()] ?? {}), ...without(schema, "$ref") };
      else if (schema.allOf?.length === 1) schema = { ...schema.allOf[0], ...without(schema, "allOf") };
      else if (schema.anyOf) {
        const some = schema.anyOf.filter((one) => one.type !== "null");
        optional ||= some.length < schema.anyOf.length;
        if (some.length !== 1) return { schema, optional };
        schema = { ...some[0], ...without(schema, "anyOf") };
      } else break;
    }
    return { schema, optional };
  }

  object(schema, title) {
    const needed = new Set(schema.required ?? []);
    const fields = Object.entries(schema.properties ?? {}).map(([name, one]) => [
      name,
      this.any(one, one.title ?? titled(name), needed.has(name)),
    ]);
    const element = h(
      "fieldset",
      { class: "object" },
      title ? h("legend", {}, title) : null,
      schema.description ? h("p", { class: "hint" }, schema.description) : null,
      fields.map(([, one]) => one.element),
    );
    const value = () => {
      const found = {};
      for (const [name, one] of fields) {
        const given = one.value();
        if (given !== undefined) found[name] = given;
      }
      return found;
    };
    return { element, value };
  }

  any(given, title, needed) {
    const { schema, optional } = this.plain(given);
    const must = needed && !optional;
    if (schema.const !== undefined) return { element: h("span", {}), value: () => schema.const };
    if (schema.enum) return this.choice(schema, title, must);
    if (schema.type === "boolean") return this.yes(schema, title);
    if (schema.type === "integer" || schema.type === "number") return this.number(schema, title, must);
    if (schema.type === "string") return this.text(schema, title, must);
    if (schema.type === "array" && schema.items && !schema.prefixItems) return this.list(schema, title);
    if (schema.type === "object" && schema.properties)
      return must ? this.object({ ...schema, title }, title) : this.maybe(schema, title);
    return this.json(schema, title, must);
  }

  text(schema, title, must) {
    const kinds = {
      date: "date",
      email: "email",
      uri: "url",
      time: "time",
      "date-time": "datetime-local",
      password: "password",
    };
    const long = !schema.format && (schema.maxLength === undefined || schema.maxLength > 200);
    const limits = {
      minLength: schema.minLength,
      maxLength: schema.maxLength,
      required: must && (schema.minLength ?? 0) > 0,
      value: schema.default ?? "",
    };
    const control = long
      ? h("textarea", { rows: 1, ...limits })
      : h("input", { type: kinds[schema.format] ?? "text", pattern: schema.pattern, ...limits });
    return {
      element: field(label(title, must), control, schema.description),
      value: () => (control.value === "" && !must ? undefined : control.value),
    };
  }

  number(schema, title, must) {
    const whole = schema.type === "integer";
    const control = h("input", {
      type: "number",
      step: whole ? "1" : "any",
      required: must,
      min: schema.minimum ?? schema.exclusiveMinimum,
      max: schema.maximum ?? schema.exclusiveMaximum,
      value: schema.default ?? "",
    });
    return {
      element: field(label(title, must), control, schema.description),
      value: () => (control.value === "" ? undefined : Number(control.value)),
    };
  }

  yes(schema, title) {
    const control = h("input", { type: "checkbox", checked: schema.default === true });
    return {
      element: h(
        "label",
        { class: "check" },
        control,
        h("span", {}, title, schema.description ? h("span", { class: "hint" }, schema.description) : null),
      ),
      value: () => control.checked,
    };
  }

  choice(schema, title, must) {
    const options = schema.enum.map((one, index) => h("option", { value: String(index) }, String(one)));
    const control = h("select", { required: must }, must ? null : h("option", { value: "" }, "–"), options);
    const first = schema.enum.indexOf(schema.default);
    control.value = first >= 0 ? String(first) : must ? "0" : "";
    return {
      element: field(label(title, must), control, schema.description),
      value: () => (control.value === "" ? undefined : schema.enum[Number(control.value)]),
    };
  }

  list(schema, title) {
    const items = [];
    const box = h("div", { class: "items" });
    const add = (first) => {
      const one = this.any(
        { ...schema.items, ...(first === undefined ? {} : { default: first }) },
        `${title} ${items.length + 1}`,
        true,
      );
      const line = h(
        "div",
        { class: "item" },
        one.element,
        h(
          "button",
          {
            type: "button",
            class: "quiet icon",
            "aria-label": `Take ${title} ${items.length + 1} away`,
            onclick: () => {
              items.splice(items.indexOf(one), 1);
              line.remove();
              more.focus();
            },
          },
          icon("close"),
        ),
      );
      items.push(one);
      box.append(line);
      return line;
    };
    const more = h(
      "button",
      { type: "button", class: "small", onclick: () => add().querySelector("input, textarea, select")?.focus() },
      icon("plus"),
      "Add",
    );
    const firsts = Array.isArray(schema.default) ? schema.default : Array(schema.minItems ?? 0).fill(undefined);
    firsts.forEach((first) => add(first));
    const element = h(
      "fieldset",
      { class: "object" },
      h("legend", {}, title),
      schema.description ? h("p", { class: "hint" }, schema.description) : null,
      box,
      more,
    );
    return { element, value: () => items.map((one) => one.value()) };
  }

  /** An object that may be left out. */
  maybe(schema, title) {
    const inner = this.object(schema, title);
    const given = h("input", { type: "checkbox", onchange: () => (inner.element.hidden = !given.checked) });
    inner.element.hidden = true;
    return {
      element: h("div", {}, h("label", { class: "check" }, given, `Give ${title}`), inner.element),
      value: () => (given.checked ? inner.value() : undefined),
    };
  }

  json(schema, title, must) {
    const first = schema.default === undefined ? "" : JSON.stringify(schema.default);
    const control = h("textarea", { rows: 3, class: "code", spellcheck: false, required: must, value: first });
    const value = () => {
      if (control.value.trim() === "") return undefined;
      try {
        return JSON.parse(control.value);
      } catch {
        control.focus();
        throw new Error(`${title} isn't JSON: write {"name": 1}, [1, 2], "text", 5, true or null`);
      }
    };
    return { element: field([label(title, must), " as JSON"], control, schema.description), value };
  }
}

const label = (title, must) => (must ? title : [title, h("span", { class: "optional" }, " optional")]);
const titled = (name) => name.charAt(0).toUpperCase() + name.slice(1).replaceAll("_", " ");

function without(schema, name) {
  const { [name]: _, ...rest } = schema;
  return rest;
}
