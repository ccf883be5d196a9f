/** An exploration with default settings finds every planted fault, and shrinks it to a few decisions. */
import { describe, expect, test } from 'vitest';
import { explored } from '../../fixtures/explored.ts';
import { search } from '../../src/testing/explore.ts';
import { memoryStore, planted } from './planted.ts';

describe('planted', () => {
  // Found late, or shrunk slowly: `npm run test:soak` plays them all.
  const slow = [
    'a schedule advances from the current time instead of its occurrence',
    'an occurrence creates two jobs when two schedulers race',
    'a cancellation is lost when it races a failure',
    'settle is not fenced: it accepts outcomes of any claim',
    'the heartbeat stops before the attempts of the worker have ended',
  ];
  const some = planted.filter(({ bug }) => process.env.ESCAPEMENT_SOAK || !slow.includes(bug));
  test.each(some)('$bug', async ({ bug, store, engine }) => {
    const { tasks, scenario } = explored(20, 5);
    let seeds = 1;
    const source = store ? { store: { kind: 'store' as const, name: 'planted', open: () => store(memoryStore()) } } : {};
    const onProgress = ({ played }: { played: number }) => {
      seeds = played + 1;
    };
    const options = { seeds: 500, ...source, onProgress };
    const begun = performance.now();
    const found = await search(tasks, options, scenario, engine).then(
      () => 'not found',
      (error: Error) => error.message,
    );
    const [, before, after] = /shrunk from (\d+) to (\d+) decision/.exec(found) ?? [];
    if (process.env.ESCAPEMENT_TABLE)
      console.log(
        `| ${bug} | ${seeds} | ${before} | ${after} | ${Math.round(performance.now() - begun)} ms | ${found.split('\n', 1)[0]?.replace(/^\S+: /, '')} |`,
      );
    expect(found).not.toBe('not found');
    expect(Number(after)).toBeLessThanOrEqual(8);
  });
});
