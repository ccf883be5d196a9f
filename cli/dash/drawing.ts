/**
 * Loads the renderer on demand: React and Ink take 50 MB of memory, which a worker does not need. React is loaded with NODE_ENV=production,
 * because its development build records measurements for every frame. The user's module does not see this value.
 */
import { setFlagsFromString } from 'node:v8';
import type { State } from './state.ts';
import { colourLevel, type Environment, type Theme } from './theme.ts';

export type Draw = (state: State, theme: Theme) => readonly string[];

/** @param alone true if no worker runs in this process, so that its heap may be limited */
export async function loadDrawing(env: Environment, alone: boolean): Promise<Draw> {
  // Frames are garbage within a second. Collecting them often in a small young generation saves 40 MB.
  setFlagsFromString('--semi-space-growth-factor=1');
  // Saves 60 MB after a hundred keys.
  if (alone) setFlagsFromString('--optimize-for-size');
  const { NODE_ENV, FORCE_COLOR } = process.env;
  process.env.NODE_ENV = 'production';
  // Never 0: bold and inverse text is written without colours too, and the plain theme has no colours.
  process.env.FORCE_COLOR = String(colourLevel(env));
  try {
    return (await import('./app.tsx')).renderFrame;
  } finally {
    restore('NODE_ENV', NODE_ENV);
    restore('FORCE_COLOR', FORCE_COLOR);
  }
}

function restore(name: string, value: string | undefined): void {
  if (value === undefined) delete process.env[name];
  else process.env[name] = value;
}
