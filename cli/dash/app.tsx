/** Renders the lines of the screen with Ink, in the colours of a theme. The only file that uses React. */
import { Box, renderToString, Text } from 'ink';
import type { ReactNode } from 'react';
import type { State } from './state.ts';
import type { Line, Span } from './text.ts';
import type { Theme } from './theme.ts';
import { screen } from './views/screen.ts';

function Piece({ piece, theme, inverse }: { readonly piece: Span; readonly theme: Theme; readonly inverse: boolean }): ReactNode {
  const { color, bold = false, dim = false } = theme.roles[piece.role];
  return (
    <Text {...(color === undefined ? {} : { color })} bold={bold} dimColor={dim && !inverse} inverse={inverse}>
      {piece.text}
    </Text>
  );
}

/** Merges adjacent pieces of the same style. */
function merged(spans: readonly Span[]): readonly Span[] {
  const pieces: Span[] = [];
  for (const one of spans) {
    const before = pieces.at(-1);
    if (before && (before.role === one.role || one.text.trim() === ''))
      pieces[pieces.length - 1] = { ...before, text: before.text + one.text };
    else if (one.text !== '') pieces.push(one);
  }
  return pieces;
}

function Row({ row, theme }: { readonly row: Line; readonly theme: Theme }): ReactNode {
  return (
    <Box height={1}>
      <Text wrap="truncate">
        {merged(row.spans).map((piece, i) => (
          // biome-ignore lint/suspicious/noArrayIndexKey: the pieces of a line have no other identity
          <Piece key={i} piece={piece} theme={theme} inverse={row.inverse === true} />
        ))}
      </Text>
    </Box>
  );
}

/** The lines of the screen. */
function Rows({ rows, theme, wide }: { readonly rows: readonly Line[]; readonly theme: Theme; readonly wide: number }): ReactNode {
  return (
    <Box flexDirection="column" width={wide}>
      {rows.map((row, i) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: a line is where it is
        <Row key={i} row={row} theme={theme} />
      ))}
    </Box>
  );
}

let drawn: ReadonlyMap<string, string> = new Map();

/** Renders a frame to terminal lines. Only lines that were not in the previous frame are laid out again. */
export function renderFrame(state: State, theme: Theme): readonly string[] {
  const lines = screen(state);
  const keys = lines.map((row) => JSON.stringify([theme.name, row]));
  const fresh = lines.filter((_, i) => !drawn.has(keys[i] ?? ''));
  const texts =
    fresh.length === 0
      ? []
      : renderToString(<Rows rows={fresh} theme={theme} wide={state.columns} />, { columns: state.columns }).split('\n');
  let next = 0;
  const frame = keys.map((key) => drawn.get(key) ?? texts[next++] ?? '');
  drawn = new Map(keys.map((key, i) => [key, frame[i] ?? '']));
  return frame;
}
