import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

const at = (path: string) => fileURLToPath(new URL(path, import.meta.url));

/** Explorations and oracles: they only compute, for as long as everything else together. `npm run test:long`, and the soak. */
const long = [
  'test/cli/explore.test.ts',
  'test/core/{cron-oracle,zone}.test.ts',
  'test/testing/{determinism,explore,planted,shop,sound}.test.ts',
];
/** What other commands run: `npm run test:long`, `npm run test:soak`, `npm run test:real-code` and `npm run test:postgres`. */
const elsewhere = [
  ...(process.env.ESCAPEMENT_SOAK || process.env.ESCAPEMENT_LONG ? [] : long),
  ...(process.env.ESCAPEMENT_SOAK ? [] : ['test/soak/**']),
  ...(process.env.ESCAPEMENT_TEST_SERVERS ? [] : ['test/real-code/**']),
  ...(process.env.ESCAPEMENT_POSTGRES ? [] : ['test/postgres/**', 'test/bullmq/processes.test.ts']),
];
/** Files that may share what they have loaded. Those that run commands on the shop itself close it, and have a process of their own. */
const pure = [
  'test/core/*.test.ts',
  'test/types/*.test.ts',
  'test/backends/*.test.ts',
  'test/dash/{decode,frames,instants,keys,pace,rewind,screen,source,terminal,virtual}.test.ts',
  'test/engine/*.test.ts',
  'test/ports/random.test.ts',
  'test/processes/*.test.ts',
  'test/testing/{determinism,edges,explore,node-test,planted,simulation,sound}.test.ts',
  'test/{aliases,applications,exports,fleet,hooks,imports,limits,mistakes,notes,operations,plan,steps,tasks,torture,unique,workflow}.test.ts',
  'test/email/{classify,queued,simulation,smtp,transports}.test.ts',
  'test/vitest/{enqueued,outcome,report,runs}.test.ts',
  'test/{guides,scenarios}/*.test.ts',
  'test/cli/{clocks,explore,format,init,log,mail,operate,simulate,time,worker}.test.ts',
  'test/stores/{conformance,differential,mutants,sqlite,sqlite-files,sqlite-keeper,sqlite-schedules}.test.ts',
];

/** Files that wait more than they compute. They start first, so that others compute meanwhile. */
const waiting = ['dash/terminal', 'stores/sqlite', 'cli/worker', 'processes/mail', 'processes/processes', 'cli/work'];

class WaitingFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const place = ({ moduleId }: TestSpecification) => waiting.findIndex((name) => moduleId.endsWith(`test/${name}.test.ts`));
    const first = files.filter((file) => place(file) >= 0).sort((a, b) => place(a) - place(b));
    return [...first, ...(await super.sort(files.filter((file) => place(file) < 0)))];
  }
}

export default defineConfig({
  resolve: {
    alias: [
      { find: /^escapement$/, replacement: at('./src/index.ts') },
      { find: /^escapement\/sqlite$/, replacement: at('./src/stores/sqlite/index.ts') },
      { find: /^escapement\/postgres$/, replacement: at('./src/stores/postgres/index.ts') },
      { find: /^escapement\/bullmq$/, replacement: at('./src/bullmq/index.ts') },
      { find: /^escapement\/email$/, replacement: at('./src/email/index.ts') },
      { find: /^escapement\/testing$/, replacement: at('./src/testing/index.ts') },
      { find: /^escapement\/vitest\/setup$/, replacement: at('./src/vitest/setup.ts') },
      { find: /^escapement\/vitest$/, replacement: at('./src/vitest/index.ts') },
    ],
  },
  test: {
    // Much of what is tested waits for other processes. No test judges by time, so it does no harm if they get in each other's way.
    maxWorkers: 4,
    sequence: { sequencer: WaitingFirst },
    // Beyond these something hangs; a slow machine takes its time.
    testTimeout: 300_000,
    hookTimeout: 60_000,
    expect: { poll: { timeout: 30_000 } },
    globalSetup: ['test/setup/folder.ts', 'test/setup/build.ts', 'test/setup/postgres.ts'],
    projects: [
      // These keep nothing between two files, and need not load the sources anew for each.
      { extends: true, test: { name: 'pure', isolate: false, include: pure, exclude: elsewhere } },
      { extends: true, test: { name: 'own', include: ['test/**/*.test.ts'], exclude: [...pure, ...elsewhere] } },
    ],
    typecheck: { enabled: false },
  },
});
