/**
 * Limits the number of frames per second. A key press is drawn immediately. If keys arrive faster than frames are allowed, as when a key is
 * held down, frames are spaced evenly instead of using up the limit in one burst.
 */

const framesASecond = 15;
/** The interval between frames that no key caused, and while a key repeats. */
const paceMs = 100;
/** The frames of each second that are reserved for keys. */
const atOnce = 5;

export class Pace {
  /** The times of the latest frames, oldest first. */
  readonly #drawnAt: number[] = [];
  readonly #byKeyAt: number[] = [];

  /** The wait before the next frame, in milliseconds. @param byKey true if a key was pressed */
  waitMs(now: number, byKey: boolean): number {
    const oldest = this.#drawnAt.length < framesASecond ? Number.NEGATIVE_INFINITY : (this.#drawnAt[0] ?? 0) + 1_000;
    const free = byKey && (this.#byKeyAt.length < atOnce || (this.#byKeyAt[0] ?? 0) + 1_000 <= now);
    const paced = free ? Number.NEGATIVE_INFINITY : (this.#drawnAt.at(-1) ?? Number.NEGATIVE_INFINITY) + paceMs;
    return Math.max(0, oldest - now, paced - now);
  }

  drawn(now: number, byKey: boolean): void {
    this.#drawnAt.push(now);
    if (this.#drawnAt.length > framesASecond) this.#drawnAt.shift();
    if (!byKey) return;
    this.#byKeyAt.push(now);
    if (this.#byKeyAt.length > atOnce) this.#byKeyAt.shift();
  }
}
