/** A screen as a picture: the pictures in README are real frames. Every cell has its own position, whatever the font. */

import { parts } from '../../cli/dash/prompt.ts';
import type { State } from '../../cli/dash/state.ts';
import { type Theme, themes } from '../../cli/dash/theme.ts';
import { screen } from '../../cli/dash/views/screen.ts';
import { width } from '../../cli/format.ts';

const cellWide = 8.4;
const cellHigh = 18;
const margin = 14;
const colours = { dark: { ground: '#1b1e24', text: '#d8dee9' }, light: { ground: '#fbfbfa', text: '#24292f' } };

export function svgOf(state: State, title: string, name: 'dark' | 'light' = 'dark'): string {
  const theme: Theme = themes[name];
  const { ground, text } = colours[name];
  const wide = state.columns * cellWide + 2 * margin;
  const high = state.rows * cellHigh + 2 * margin;
  const pieces: string[] = [];
  screen(state).forEach(({ spans, inverse = false }, row) => {
    const y = margin + row * cellHigh;
    if (inverse)
      pieces.push(`<rect x="${margin}" y="${y}" width="${state.columns * cellWide}" height="${cellHigh}" fill="${text}" opacity="0.16"/>`);
    let column = 0;
    for (const { text: words, role } of spans) {
      const { color = text, bold = false } = theme.roles[role];
      for (const { at, run } of runsOf(words)) {
        const x = margin + (column + at) * cellWide;
        const length = width(run) * cellWide;
        pieces.push(
          `<text x="${x.toFixed(1)}" y="${y + 13}" textLength="${length.toFixed(1)}" lengthAdjust="spacingAndGlyphs" fill="${color}"${bold ? ' font-weight="bold"' : ''}>${escaped(run)}</text>`,
        );
      }
      column += width(words);
    }
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${wide.toFixed(0)}" height="${high}" viewBox="0 0 ${wide.toFixed(0)} ${high}" font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace" font-size="14">
<title>${escaped(title)}</title>
<rect width="100%" height="100%" rx="8" fill="${ground}"/>
${pieces.join('\n')}
</svg>
`;
}

/** Words with their positions, because XML collapses spaces. */
function runsOf(text: string): { readonly at: number; readonly run: string }[] {
  const runs: { at: number; run: string }[] = [];
  let at = 0;
  let open: { at: number; run: string } | undefined;
  for (const part of parts(text)) {
    if (part === ' ') open = undefined;
    else if (open) open.run += part;
    else {
      open = { at, run: part };
      runs.push(open);
    }
    at += width(part);
  }
  return runs;
}

function escaped(text: string): string {
  return text.replace(/[&<>]/g, (char) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;' })[char] ?? char);
}
