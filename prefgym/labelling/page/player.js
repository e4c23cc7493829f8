// Plays clips side by side, each on a canvas.

const REST = 0.4; // seconds that a clip rests on its last picture

/** Tracks that loop in step; the shorter ones rest on their last pose. */
export class Player {
  constructor(...tracks) {
    this.tracks = tracks;
    this.seconds = Math.max(...tracks.map((track) => track.seconds));
    this.span = Math.max(...tracks.map((track) => track.span)); // of one scale, so that they can be compared
    this.restart();
  }

  restart() { this.time = 0; this.rest = 0; }

  /** Whether some cannot be painted yet; and whether all can be, once none waits. */
  get waits() { return this.tracks.some((track) => track.waits); }
  get drawn() { return this.tracks.every((track) => track.drawn); }

  /** Plays on, once all can be painted, and says whether it started again. */
  advance(seconds, speed) {
    if (this.waits) return false;
    this.time = Math.min(this.time + seconds * speed, this.seconds);
    this.rest += this.time === this.seconds ? seconds : 0;
    if (this.rest < REST) return false;
    this.restart();
    return true;
  }

  paint(...canvases) {
    canvases.forEach((canvas, index) => {
      const track = this.tracks[Math.min(index, this.tracks.length - 1)];
      if (track.drawn && fit(canvas)) track.paint(canvas, this.time, this.span);
    });
  }
}

/** Gives a canvas as many pixels as it is shown with; says whether it has any. */
function fit(canvas) {
  const ratio = Math.min(window.devicePixelRatio || 1, 2);
  const [width, height] = [canvas.clientWidth, canvas.clientHeight].map((length) => Math.round(length * ratio));
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
  return width > 0 && height > 0;
}
