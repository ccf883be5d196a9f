/** How often frames are drawn, whatever requests them and however often. */
import { expect, test } from 'vitest';
import { Pace } from '../../cli/dash/pace.ts';

/** The instants of frames if a key is pressed every `keysMs` and the display changes continuously. */
function frames(forMs: number, keysMs: number, moves: boolean): number[] {
  const pace = new Pace();
  const drawnAt: number[] = [];
  let due: { at: number; asked: boolean } | undefined;
  for (let now = 0; now < forMs; now++) {
    const pressed = now % keysMs === 0;
    if (pressed || (moves && !due)) due = { at: now + pace.waitMs(now, pressed), asked: pressed };
    if (!due || due.at > now) continue;
    drawnAt.push(now);
    pace.drawn(now, due.asked);
    due = undefined;
  }
  return drawnAt;
}

test('a key press is drawn immediately, even while the display changes', () => {
  for (const moves of [false, true]) {
    const drawnAt = frames(10_000, 250, moves);
    for (let key = 0; key < 10_000; key += 250) expect(drawnAt, String(key)).toContain(key);
  }
});

test.each([
  [33, false],
  [33, true],
  [5, false],
  [250, true],
  [20_000, true],
])('keys every %i ms, %s: at most 15 frames per second, and none is late', (keysMs, moves) => {
  const drawnAt = frames(5_000, keysMs, moves);
  for (const at of drawnAt) expect(drawnAt.filter((other) => other >= at && other < at + 1_000).length).toBeLessThanOrEqual(15);
  const waits = drawnAt.slice(1).map((at, i) => at - (drawnAt[i] ?? 0));
  expect(Math.max(...waits)).toBeLessThan(170);
});
