/**
 * How things look, as data: a colour for each role, a glyph and a colour for each status. Colours are names of the terminal's own sixteen
 * or `#rrggbb`; a theme without any still has bold, dim and inverse text.
 */
import type { Status } from 'escapement';

/** What a piece of text is. */
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

/** A glyph and a colour: neither has to be seen for the other to be understood. */
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

/** The theme that was asked for, or the one that the terminal can show. */
export function themeFor(env: Environment, asked?: Theme['name']): Theme {
  if (env.NO_COLOR) return themes.plain;
  if (asked) return themes[asked];
  if (env.TERM === 'dumb' || env.TERM === 'vt100') return themes.plain;
  if (!isRich(env)) return themes.sixteen;
  // `COLORFGBG` is `foreground;background`, of sixteen: 7 and 15 are white.
  const background = env.COLORFGBG?.split(';').at(-1);
  return background === '7' || background === '15' ? themes.light : themes.dark;
}

function isRich({ COLORTERM, TERM = '' }: Environment): boolean {
  return /truecolor|24bit/i.test(COLORTERM ?? '') || /256color|kitty|ghostty|direct/.test(TERM);
}

/** How many colours are written: chalk's levels. Without colour, text is bold and inverse all the same. */
export function colourLevel(env: Environment): 1 | 2 | 3 {
  if (/truecolor|24bit/i.test(env.COLORTERM ?? '')) return 3;
  return isRich(env) ? 2 : 1;
}
