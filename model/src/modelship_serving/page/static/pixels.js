// From ink or a picture to the model's input. A plane is {width, height, data}: one number from 0 to 1 for each pixel.

/** Shrink or enlarge a plane by the mean of the area that each new pixel covers. */
export function resize(plane, width, height) {
  const across = { width, height: plane.height, data: new Float32Array(width * plane.height) };
  lines(plane.data, across.data, plane.width, width, plane.height, 1, 1, plane.width, width);
  const result = { width, height, data: new Float32Array(width * height) };
  lines(across.data, result.data, plane.height, height, width, width, width, 1, 1);
  return result;
}

function lines(from, to, before, after, count, stepFrom, stepTo, nextFrom, nextTo) {
  const scale = before / after;
  for (let place = 0; place < after; place++) {
    const start = place * scale;
    const end = Math.min(before, start + scale);
    for (let line = 0; line < count; line++) {
      let sum = 0;
      for (let i = Math.floor(start); i < end; i++) {
        sum += from[line * nextFrom + i * stepFrom] * (Math.min(end, i + 1) - Math.max(start, i));
      }
      to[line * nextTo + place * stepTo] = sum / (end - start);
    }
  }
}

/**
 * Place ink as MNIST's digits are: scaled to fit a box of 20 of the 28 pixels, its centre of mass in the middle.
 * (LeCun, Cortes and Burges, The MNIST database.) Inputs under 16 pixels have no such margin. null: there is no ink.
 */
export function centred(ink, width, height) {
  let left = ink.width, right = -1, top = ink.height, bottom = -1;
  for (let y = 0; y < ink.height; y++) {
    for (let x = 0; x < ink.width; x++) {
      if (ink.data[y * ink.width + x] > 0.1) {
        left = Math.min(left, x); right = Math.max(right, x); top = Math.min(top, y); bottom = Math.max(bottom, y);
      }
    }
  }
  if (right < 0) return null;
  const wide = right - left + 1, high = bottom - top + 1;
  const share = Math.min(width, height) < 16 ? 1 : 20 / 28;
  const scale = Math.min((width * share) / wide, (height * share) / high);
  const small = resize(crop(ink, left, top, wide, high), Math.max(1, Math.round(wide * scale)), Math.max(1, Math.round(high * scale)));
  let mass = 0, sumX = 0, sumY = 0;
  small.data.forEach((value, i) => {
    mass += value; sumX += value * ((i % small.width) + 0.5); sumY += value * (Math.floor(i / small.width) + 0.5);
  });
  const clamp = (value, most) => Math.max(0, Math.min(most, Math.round(value)));
  const x0 = clamp(width / 2 - sumX / mass, width - small.width);
  const y0 = clamp(height / 2 - sumY / mass, height - small.height);
  const result = { width, height, data: new Float32Array(width * height) };
  for (let y = 0; y < small.height; y++) {
    result.data.set(small.data.subarray(y * small.width, (y + 1) * small.width), (y + y0) * width + x0);
  }
  return result;
}

function crop(plane, left, top, width, height) {
  const data = new Float32Array(width * height);
  for (let y = 0; y < height; y++) {
    data.set(plane.data.subarray((y + top) * plane.width + left, (y + top) * plane.width + left + width), y * width);
  }
  return { width, height, data };
}

/** The planes of a picture: red, green and blue, or their luminance alone. */
export function planes(image, channels) {
  const { width, height, data } = image;
  const count = width * height;
  const result = Array.from({ length: channels }, () => ({ width, height, data: new Float32Array(count) }));
  for (let i = 0; i < count; i++) {
    const [r, g, b] = [data[4 * i] / 255, data[4 * i + 1] / 255, data[4 * i + 2] / 255];
    if (channels === 1) result[0].data[i] = 0.299 * r + 0.587 * g + 0.114 * b;
    else [r, g, b, data[4 * i + 3] / 255].slice(0, channels).forEach((value, c) => { result[c].data[i] = value; });
  }
  return result;
}

/** The median of a plane's outermost pixels: its background. */
export function border(plane) {
  const { width, height, data } = plane;
  const edge = [];
  for (let x = 0; x < width; x++) edge.push(data[x], data[(height - 1) * width + x]);
  for (let y = 1; y < height - 1; y++) edge.push(data[y * width], data[y * width + width - 1]);
  return edge.sort((a, b) => a - b)[edge.length >> 1];
}

/** What stands out from a picture's background, stretched to the full range; shadows of the paper are dropped. */
export function inkOf(plane) {
  const paper = border(plane);
  const data = plane.data.map((value) => (paper > 0.5 ? paper - value : value - paper));
  const most = data.reduce((a, b) => Math.max(a, b), 0);
  return { ...plane, data: data.map((value) => (most < 0.1 ? 0 : Math.min(1, Math.max(0, (value / most - 0.25) / 0.6)))) };
}

/** Fit a plane into the model's size as a whole; what is left free takes the colour of its border. */
export function fitted(plane, width, height) {
  const scale = Math.min(width / plane.width, height / plane.height);
  const small = resize(plane, Math.max(1, Math.round(plane.width * scale)), Math.max(1, Math.round(plane.height * scale)));
  const result = { width, height, data: new Float32Array(width * height).fill(border(plane)) };
  const x0 = (width - small.width) >> 1, y0 = (height - small.height) >> 1;
  for (let y = 0; y < small.height; y++) {
    result.data.set(small.data.subarray(y * small.width, (y + 1) * small.width), (y + y0) * width + x0);
  }
  return result;
}

/** The numbers of an input, flat, in the order and range of the signature. */
export function numbers(list, picture) {
  const size = picture.width * picture.height;
  const values = new Array(size * list.length);
  const span = picture.high - picture.low;
  list.forEach((plane, c) => plane.data.forEach((share, i) => {
    const value = picture.low + span * share;
    values[picture.planes ? c * size + i : i * list.length + c] = span >= 100 || picture.whole ? Math.round(value) : Math.round(value * 1e4) / 1e4;
  }));
  return values;
}

/** The reverse of numbers(): planes of an input's values. */
export function planesOf(values, picture) {
  const { width, height, channels } = picture;
  const size = width * height;
  return Array.from({ length: channels }, (unused, c) => ({
    width, height,
    data: Float32Array.from({ length: size }, (none, i) =>
      (values[picture.planes ? c * size + i : i * channels + c] - picture.low) / (picture.high - picture.low)),
  }));
}

/** Show planes on a canvas of their size. */
export function paint(canvas, list) {
  const { width, height } = list[0];
  canvas.width = width; canvas.height = height;
  const image = new ImageData(width, height);
  for (let i = 0; i < width * height; i++) {
    for (let c = 0; c < 3; c++) image.data[4 * i + c] = 255 * list[Math.min(c, list.length - 1)].data[i];
    image.data[4 * i + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}
