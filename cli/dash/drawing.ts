/**
 * Loads what draws, and only for those who draw: React and Ink are fifty megabytes that a worker does not carry. React is told that this is
 * production, for its development build keeps a measure of every frame; the module's own code is told nothing of it.
 */
import { setFlagsFromString } from 'node:v8';
import type { State } from './state.ts';
import { colourLevel, type Environment, type Theme } from './theme.ts';

export type Draw = (state: State, theme: Theme) => readonly string[];

/** @param alone no worker runs in this process, whose heap is to grow as it likes */
export async function loadDrawing(env: Environment, alone: boolean): Promise<Draw> {
  // Frames are garbage within a second: collected often, in a small place, they cost forty megabytes less.
  setFlagsFromString('--semi-space-growth-factor=1');
  // After a hundred keys, sixty megabytes less.
  if (alone) setFlagsFromString('--optimize-for-size');
  const { NODE_ENV, FORCE_COLOR } = process.env;
  process.env.NODE_ENV = 'production';
  // Also without colour: bold and inverse are written all the same, and the theme has no colours then.
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
