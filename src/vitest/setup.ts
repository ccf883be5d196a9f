/**
 * `escapement/vitest/setup`, for `setupFiles` in `vitest.config.ts`: loads `escapement/testing` before any module of a test, so that timers and dates
 * that modules capture when they are loaded (`const { setTimeout } = globalThis`) follow virtual time, and connections that they open are known.
 * @example
 * export default defineConfig({ test: { setupFiles: ['escapement/vitest/setup'] } });
 */
import 'escapement/testing';
