// The form for models that do not take pictures: a number field for each of a few features, or JSON.
const byId = (id) => document.getElementById(id);
const FEW = 24;

export class Fields {
  /** ask(values): called with the model's input; complain(message): the input is not one. */
  constructor(model, ask, complain) {
    Object.assign(this, { model, ask, complain });
    const size = (each) => each.shape.reduce((a, b) => a * b, 1);
    this.few = model.inputs.reduce((sum, each) => sum + size(each), 0) <= FEW && model.inputs.every((each) => each.datatype !== "BOOL");
    this.boxes = model.inputs.map((each) => (this.few ? this.numbers(each, size(each)) : []));
    byId("json").hidden = byId("json-label").hidden = this.few;
    byId("fields").hidden = false;
    byId("fields").addEventListener("submit", (event) => { event.preventDefault(); this.submit(); });
    let next = 0;
    byId("restore").hidden = !model.samples.length;
    byId("restore").addEventListener("click", () => { this.fill(model.samples[next++ % model.samples.length]); this.submit(); });
    this.fill(model.sample);
  }

  numbers(input, count) {
    return Array.from({ length: count }, (unused, place) => {
      const label = document.createElement("label");
      const name = document.createElement("span");
      const box = document.createElement("input");
      name.textContent = count > 1 ? `${input.name} ${place + 1}` : input.name;
      const whole = /INT/.test(input.datatype);
      Object.assign(box, { type: "number", step: whole ? "1" : "any", required: true, inputMode: whole ? "numeric" : "decimal" });
      if (input.range) { [box.min, box.max] = input.range; name.textContent += `, ${input.range[0]} to ${input.range[1]}`; }
      label.append(name, box);
      byId("numbers").append(label);
      return box;
    });
  }

  fill(sample) {
    if (!this.few) { byId("json").value = pretty(sample); return; }
    this.model.inputs.forEach((each, index) => {
      const values = [sample[each.name]].flat(Infinity);
      this.boxes[index].forEach((box, place) => { box.value = Number(Number(values[place]).toPrecision(7)); });
    });
  }

  submit() {
    if (this.few) {
      if (!byId("fields").reportValidity()) return;
      const entries = this.model.inputs.map((each, index) => [each.name, this.boxes[index].map((box) => Number(box.value))]);
      this.ask(Object.fromEntries(entries));
      return;
    }
    try {
      this.ask(JSON.parse(byId("json").value));
    } catch (error) {
      this.complain(`This is not JSON: ${error.message}`);
    }
  }
}

/** JSON with a line for each innermost array. */
function pretty(value) {
  const write = (item, indent) => {
    if (!Array.isArray(item)) return JSON.stringify(item);
    if (!item.some(Array.isArray)) return JSON.stringify(item).replaceAll(",", ", ");
    return `[\n${item.map((each) => indent + "  " + write(each, indent + "  ")).join(",\n")}\n${indent}]`;
  };
  return `{\n${Object.entries(value).map(([name, item]) => `  ${JSON.stringify(name)}: ${write(item, "  ")}`).join(",\n")}\n}`;
}
