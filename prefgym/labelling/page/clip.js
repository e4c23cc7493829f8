// Clips on a canvas: planar bodies as prefgym/envs/painter.py draws them (metres; z = 0 is the floor), or pictures.
import { Text } from "./text.js";

const FOLLOW = 0.15; // share of its lag that the camera makes up per pose
const GROUND = 0.84; // height of the picture at which the ground line lies, from the top
const TILE = 0.5; // metres
const VIEW = [2.0, 2.6]; // metres that are seen, at least: width and height; more of a body that is wider
const EDGE = 0.12; // metres between the body and the picture's edge
const TRAIL = 0.8; // seconds of the torso's way that are drawn behind it

const COLOURS = ["--sky-top", "--sky", "--ground", "--tile-a", "--tile-b", "--clip-quiet", "--trail"];
let theme = null;

/** Reads the colours from the style sheet again, as when the browser turns dark. */
export function forgetTheme() { theme = null; }

function colours() {
  if (!theme) {
    const style = getComputedStyle(document.documentElement);
    theme = Object.fromEntries(COLOURS.map((name) => [name.slice(2), style.getPropertyValue(name).trim()]));
  }
  return theme;
}

function shade(colour, by) {
  const parts = [1, 3, 5].map((at) => Math.round(parseInt(colour.slice(at, at + 2), 16) * by));
  return `rgb(${parts.join(",")})`;
}

/** What a page can show of a clip; how depends on its kind. */
export class Track {
  /** Resolves once the clip can be painted, or cannot be; until then it `waits`. */
  ready = Promise.resolve();

  constructor(clip) {
    if (new.target === Track) return new (KINDS[clip.kind] || Unknown)(clip);
    this.kind = clip.kind;
    this.words = clip.text || "This page cannot show a clip of this kind.";
    this.rate = clip.rate;
  }

  get drawn() { return true; }
  get waits() { return false; }
  get span() { return 0; }
  get seconds() { return (this.length - 1) / this.rate; }
}

class Unknown extends Track {
  get drawn() { return false; }
  get seconds() { return 0; }
}

/** Pictures in one image, as large as they fit. */
class Frames extends Track {
  constructor(clip) {
    super(clip);
    [this.wide, this.high] = clip.size;
    this.columns = clip.columns;
    this.length = clip.count;
    this.words = "These pictures cannot be shown by this browser.";
    this.sheet = null;
    this.ready = this.decode(clip.image);
  }

  get drawn() { return !this.failed; }
  get waits() { return !this.sheet && !this.failed; }

  async decode(source) {
    const image = new Image();
    image.src = source;
    try {
      await image.decode();
      this.sheet = await createImageBitmap(image); // else the browser may forget it, and decode it in the midst of a clip
    } catch { this.failed = true; }
  }

  paint(canvas, time) {
    const pen = canvas.getContext("2d"), { width, height } = canvas;
    pen.fillStyle = colours().sky;
    pen.fillRect(0, 0, width, height);
    if (!this.sheet) return;
    const number = Math.min(Math.floor(time * this.rate + 1e-6), this.length - 1);
    const from = [(number % this.columns) * this.wide, Math.floor(number / this.columns) * this.high];
    const scale = Math.min(width / this.wide, height / this.high), size = [scale * this.wide, scale * this.high];
    pen.imageSmoothingQuality = "high";
    pen.drawImage(this.sheet, ...from, this.wide, this.high, (width - size[0]) / 2, (height - size[1]) / 2, ...size);
  }
}

/** A planar body's poses and the camera that follows them. */
class Planar extends Track {
  constructor(clip) {
    super(clip);
    this.radii = clip.radii;
    this.fills = clip.colours;
    this.outlines = clip.colours.map((colour) => shade(colour, 0.62));
    this.head = Math.max(0, clip.names.findIndex((name) => name.includes("head")));
    this.length = clip.poses.length;
    this.poses = clip.poses.map((pose) => Float32Array.from(pose.flat()));
    this.widest = Math.max(...this.poses.map(bounds).map(([left, right]) => right - left));
    this.joints = joints(this.poses[0], Math.min(...this.radii));
    this.paths = new Map();
  }

  /** Metres of width in which all of it can be seen at each moment. */
  get span() { return this.widest + 2 * EDGE; }

  /** Ends of the capsules at a place between two poses. */
  pose(place) {
    const before = Math.floor(place), share = place - before;
    const first = this.poses[before], second = this.poses[Math.min(before + 1, this.length - 1)];
    return first.map((value, index) => value + share * (second[index] - value));
  }

  /** Where the camera is at each pose, for a picture of so many metres. */
  camera(width, height) {
    const key = `${width.toFixed(2)} ${height.toFixed(2)}`;
    if (!this.paths.has(key)) this.paths.set(key, cameraPath(this.poses, width, height));
    return this.paths.get(key);
  }

  paint(canvas, time, span) {
    const pen = canvas.getContext("2d"), { width, height } = canvas;
    const scale = Math.min(height / VIEW[1], width / Math.max(VIEW[0], span));
    const place = Math.min(time * this.rate, this.length - 1);
    const path = this.camera(width / scale, height / scale), before = Math.floor(place);
    const [from, to] = [path[before], path[Math.min(before + 1, this.length - 1)]], share = place - before;
    const camera = [0, 1].map((axis) => from[axis] + share * (to[axis] - from[axis]));
    const origin = [width / 2 - camera[0] * scale, GROUND * height + camera[1] * scale].map(Math.round);
    const pixel = (x, z) => [origin[0] + x * scale, origin[1] - z * scale];
    const pose = this.pose(place);
    paintGround(pen, width, height, scale, origin);
    paintShadow(pen, pose, scale, pixel);
    this.paintTrail(pen, place, scale, pixel);
    this.paintBody(pen, pose, scale, pixel);
  }

  paintTrail(pen, place, scale, pixel) {
    const first = Math.max(0, Math.floor(place - TRAIL * this.rate)), last = Math.floor(place);
    pen.strokeStyle = colours().trail;
    for (let at = first; at < last; at++) {
      pen.globalAlpha = 0.4 * (at - first) / (TRAIL * this.rate);
      line(pen, pixel(...torso(this.poses[at])), pixel(...torso(this.poses[at + 1])), 0.045 * scale, "butt");
    }
    pen.globalAlpha = 1;
  }

  paintBody(pen, pose, scale, pixel) {
    const edge = Math.max(1, 0.012 * scale);
    for (let part = this.radii.length - 1; part >= 0; part--) { // the torso last, on top
      const ends = [pixel(pose[4 * part], pose[4 * part + 1]), pixel(pose[4 * part + 2], pose[4 * part + 3])];
      const thick = 2 * this.radii[part] * scale;
      pen.strokeStyle = this.outlines[part];
      line(pen, ...ends, thick);
      pen.strokeStyle = this.fills[part];
      line(pen, ...ends, thick - 2 * edge);
      pen.strokeStyle = "rgba(255, 255, 255, .16)";
      line(pen, ...ends.map(([x, y]) => [x - 0.12 * thick, y - 0.2 * thick]), 0.34 * thick);
    }
    pen.fillStyle = "rgba(255, 250, 240, .9)";
    for (const at of this.joints) disc(pen, pixel(pose[at], pose[at + 1]), 0.34 * Math.min(...this.radii) * scale);
    this.paintEye(pen, pose, scale, pixel);
  }

  /** An eye at the free end of the head, or of the torso, that looks forward. */
  paintEye(pen, pose, scale, pixel) {
    const at = 4 * this.head, others = pose.filter((_, index) => index < at || index >= at + 4);
    if (!others.length) return;
    const ends = [[pose[at], pose[at + 1]], [pose[at + 2], pose[at + 3]]];
    const gaps = ends.map(([x, z]) => nearest(others, x, z));
    const [top, bottom] = gaps[0] > gaps[1] ? ends : [ends[1], ends[0]];
    const length = Math.max(1e-6, Math.hypot(top[0] - bottom[0], top[1] - bottom[1]));
    const forward = [(top[1] - bottom[1]) / length, -(top[0] - bottom[0]) / length];
    const radius = this.radii[this.head], size = 0.5 * radius;
    const on = (by) => pixel(top[0] + by * forward[0], top[1] + by * forward[1]);
    pen.fillStyle = "#fffcf6";
    disc(pen, on(0.25 * radius), size * scale);
    pen.fillStyle = "#2b3042";
    disc(pen, on(0.25 * radius + 0.38 * size), 0.5 * size * scale);
  }
}

const KINDS = { planar: Planar, frames: Frames, text: Text };

/** Metres: the body's left and right, its lowest and its highest. */
function bounds(pose) {
  const xs = pose.filter((_, index) => index % 2 === 0), zs = pose.filter((_, index) => index % 2 === 1);
  return [Math.min(...xs), Math.max(...xs), Math.min(...zs), Math.max(...zs)];
}

function torso(pose) { return [(pose[0] + pose[2]) / 2, (pose[1] + pose[3]) / 2]; }

function cameraPath(poses, width, height) {
  const path = [];
  let camera = null;
  for (const pose of poses) {
    const [left, right, , top] = bounds(pose);
    const goal = [torso(pose)[0], Math.max(0, top + 0.15 - 0.96 * GROUND * height)];
    camera = camera ? camera.map((at, axis) => at + FOLLOW * (goal[axis] - at)) : goal;
    camera = [clamp(camera[0], right + EDGE - width / 2, left - EDGE + width / 2), clamp(camera[1], goal[1] - 0.1, goal[1] + 0.3)];
    path.push(camera);
  }
  return path;
}

function joints(pose, thin) {
  const found = [];
  for (let at = 0; at < pose.length; at += 2) {
    const later = pose.subarray(4 * Math.floor(at / 4) + 4);
    if (nearest(later, pose[at], pose[at + 1]) < 0.6 * thin) found.push(at);
  }
  return found;
}

function nearest(points, x, z) {
  let least = Infinity;
  for (let at = 0; at < points.length; at += 2) least = Math.min(least, Math.hypot(points[at] - x, points[at + 1] - z));
  return least;
}

function paintGround(pen, width, height, scale, origin) {
  const sky = pen.createLinearGradient(0, 0, 0, GROUND * height), look = colours();
  sky.addColorStop(0, look["sky-top"]);
  sky.addColorStop(1, look.sky);
  pen.fillStyle = sky;
  pen.fillRect(0, 0, width, height);
  const unit = Math.max(1, height / 360), tile = TILE * scale, top = origin[1];
  pen.font = `${Math.max(9 * Math.min(devicePixelRatio, 2), 10 * unit)}px system-ui, sans-serif`;
  pen.textAlign = "center";
  pen.textBaseline = "top";
  for (let number = Math.floor(-origin[0] / tile); origin[0] + number * tile < width; number++) {
    const left = Math.round(origin[0] + number * tile), even = number % 2 === 0;
    pen.fillStyle = look[even ? "tile-a" : "tile-b"];
    pen.fillRect(left, top, Math.ceil(tile) + 1, height - top);
    pen.fillStyle = look.ground;
    pen.fillRect(left, top, Math.max(1, unit), (even ? 7 : 4) * unit);
    pen.fillStyle = look["clip-quiet"];
    if (even) pen.fillText(`${number / 2} m`.replace("-", "−"), left, top + 11 * unit);
  }
  pen.fillStyle = look.ground;
  pen.fillRect(0, top - unit, width, 2 * unit);
}

function paintShadow(pen, pose, scale, pixel) {
  const [left, right, low] = bounds(pose);
  const [x, y] = pixel((left + right) / 2, 0);
  pen.fillStyle = "#000";
  pen.globalAlpha = 0.22 * Math.exp(-1.6 * Math.max(0, low));
  pen.beginPath();
  pen.ellipse(x, y + 0.03 * scale, (0.06 + (right - left) / 2) * scale, 0.035 * scale, 0, 0, 2 * Math.PI);
  pen.fill();
  pen.globalAlpha = 1;
}

function line(pen, from, to, width, cap = "round") {
  pen.lineCap = cap;
  pen.lineWidth = Math.max(0.5, width);
  pen.beginPath();
  pen.moveTo(...from);
  pen.lineTo(...to);
  pen.stroke();
}

function disc(pen, [x, y], radius) {
  pen.beginPath();
  pen.arc(x, y, radius, 0, 2 * Math.PI);
  pen.fill();
}

function clamp(value, low, high) { return Math.min(Math.max(value, low), Math.max(low, high)); }
