import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

const at = (path: string) => fileURLToPath(new URL(path, import.meta.url));

export default defineConfig({
  resolve: {
    alias: [
      { find: /^escapement$/, replacement: at('./src/index.ts') },
      { find: /^escapement\/sqlite$/, replacement: at('./src/stores/sqlite/index.ts') },
      { find: /^escapement\/testing$/, replacement: at('./src/testing/index.ts') },
      { find: /^escapement\/vitest\/setup$/, replacement: at('./src/vitest/setup.ts') },
      { find: /^escapement\/vitest$/, replacement: at('./src/vitest/index.ts') },
    ],
  },
  test: {
    // Much of what is tested waits for other processes. No test judges by time, so it does no harm if they get in each other's way.
    maxWorkers: 4,
    // Beyond these something hangs; a slow machine takes its time.
    testTimeout: 300_000,
    hookTimeout: 60_000,
    expect: { poll: { timeout: 30_000 } },
    globalSetup: ['test/setup/build.ts'],
    include: ['test/**/*.test.ts'],
    // The long ones: `npm run test:soak`.
    exclude: process.env.ESCAPEMENT_SOAK ? [] : ['test/soak/**'],
    typecheck: { enabled: false },
  },
});
