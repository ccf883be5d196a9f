/** The lines of the screen as Ink's boxes, in the colours of a theme. With `renderFrame`, the only file that knows React. */
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

function Row({ row, theme }: { readonly row: Line; readonly theme: Theme }): ReactNode {
  return (
    <Box height={1}>
      <Text wrap="truncate">
        {row.spans.map((piece, i) => (
          // biome-ignore lint/suspicious/noArrayIndexKey: the pieces of a line have no other identity
          <Piece key={i} piece={piece} theme={theme} inverse={row.inverse === true} />
        ))}
      </Text>
    </Box>
  );
}

/** The dashboard as it stands. */
export function App({ state, theme }: { readonly state: State; readonly theme: Theme }): ReactNode {
  return (
    <Box flexDirection="column" width={state.columns}>
      {screen(state).map((row, i) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: a line is where it is
        <Row key={i} row={row} theme={theme} />
      ))}
    </Box>
  );
}

/** One frame, as the lines that a terminal is given. */
export function renderFrame(state: State, theme: Theme): readonly string[] {
  return renderToString(<App state={state} theme={theme} />, { columns: state.columns }).split('\n');
}
