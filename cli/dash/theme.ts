/**
 * The dashboard's look, as data: a colour for each role, and a glyph and a colour for each status. Colours are names from the terminal's
 * 16-colour palette or `#rrggbb`. A theme without colours still uses bold, dim and inverse text.
 */
import type { Status } from 'escapement';

/** The role of a piece of text, which determines its colour. */
export type Role = 'text' | 'dim' | 'strong' | 'title' | 'accent' | 'good' | 'bad' | 'warn' | 'busy' | 'key' | 'rule' | 'calm';

export interface Style {
  readonly color?: string;
  readonly bold?: boolean;
  readonly dim?: boolean;
}

export interface Theme {
  readonly name: 'dark' | 'light' | 'sixteen' | 'plain';
  readonly roles: Readonly<Record<Role, Style>>;
}

export const themes: Readonly<Record<Theme['name'], Theme>> = {
  dark: {
    name: 'dark',
    roles: {
      text: {},
      dim: { color: '#7f8793' },
      strong: { bold: true },
      title: { color: '#7f8793' },
      accent: { color: '#7fb4ff', bold: true },
      good: { color: '#8ccf7e' },
      bad: { color: '#f2777a' },
      warn: { color: '#e5c76b' },
      busy: { color: '#67cbe7' },
      key: { color: '#c6a0f6' },
      rule: { color: '#3b4252' },
      calm: { color: '#a5adba' },
    },
  },
  light: {
    name: 'light',
    roles: {
      text: {},
      dim: { color: '#6a737d' },
      strong: { bold: true },
      title: { color: '#6a737d' },
      accent: { color: '#1550a8', bold: true },
      good: { color: '#22762a' },
      bad: { color: '#b3261e' },
      warn: { color: '#8a5a00' },
      busy: { color: '#006b8f' },
      key: { color: '#6b3fa0' },
      rule: { color: '#c5cad1' },
      calm: { color: '#4c5561' },
    },
  },
  sixteen: {
    name: 'sixteen',
    roles: {
      text: {},
      dim: { dim: true },
      strong: { bold: true },
      title: { dim: true },
      accent: { color: 'blue', bold: true },
      good: { color: 'green' },
      bad: { color: 'red' },
      warn: { color: 'yellow' },
      busy: { color: 'cyan' },
      key: { color: 'magenta' },
      rule: { dim: true },
      calm: {},
    },
  },
  plain: {
    name: 'plain',
    roles: {
      text: {},
      dim: { dim: true },
      strong: { bold: true },
      title: { dim: true },
      accent: { bold: true },
      good: {},
      bad: { bold: true },
      warn: { bold: true },
      busy: {},
      key: { bold: true },
      rule: { dim: true },
      calm: {},
    },
  },
};

export interface Mark {
  readonly glyph: string;
  readonly role: Role;
}

/** The glyph and the colour of each status. Each of the two is enough on its own. */
export const marks: Readonly<Record<Status | 'paused' | 'snoozed', Mark>> = {
  scheduled: { glyph: '○', role: 'calm' },
  ready: { glyph: '●', role: 'accent' },
  running: { glyph: '▶', role: 'busy' },
  retrying: { glyph: '↻', role: 'warn' },
  successful: { glyph: '✓', role: 'good' },
  failed: { glyph: '✗', role: 'bad' },
  cancelled: { glyph: '⊘', role: 'dim' },
  waiting: { glyph: '◌', role: 'dim' },
  paused: { glyph: '‖', role: 'warn' },
  snoozed: { glyph: '◷', role: 'calm' },
};

export type Environment = Readonly<Record<string, string | undefined>>;

/** The requested theme, or the richest one that the terminal supports. `NO_COLOR` overrides both. */
export function themeFor(env: Environment, chosen?: Theme['name']): Theme {
  if (env.NO_COLOR) return themes.plain;
  if (chosen) return themes[chosen];
  if (env.TERM === 'dumb' || env.TERM === 'vt100') return themes.plain;
  if (!isRich(env)) return themes.sixteen;
  // `COLORFGBG` is `foreground;background` in the 16-colour palette; 7 and 15 are white.
  const background = env.COLORFGBG?.split(';').at(-1);
  return background === '7' || background === '15' ? themes.light : themes.dark;
}

function isRich({ COLORTERM, TERM = '' }: Environment): boolean {
  return /truecolor|24bit/i.test(COLORTERM ?? '') || /256color|kitty|ghostty|direct/.test(TERM);
}

/** The colour level to write, as in chalk. Never 0, so that bold and inverse text is written without colours too. */
export function colourLevel(env: Environment): 1 | 2 | 3 {
  if (/truecolor|24bit/i.test(env.COLORTERM ?? '')) return 3;
  return isRich(env) ? 2 : 1;
}
