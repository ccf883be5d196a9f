/**
 * `escapement/vitest/setup`, for `setupFiles` in `vitest.config.ts`: loads `escapement/testing` before the modules of a test. Timers and
 * dates that they capture at load time (`const { setTimeout } = globalThis`) then follow virtual time, and connections that they open are
 * tracked.
 * @example export default defineConfig({ test: { setupFiles: ['escapement/vitest/setup'] } });
 */
import 'escapement/testing';
