/** Lets the command line run an application on a different store than the one in its module. */
import type { StoreSource } from './ports/store.ts';
import { appOf, makeBackend, rebind } from './tasks.ts';

/**
 * Replaces the application's default backend, before anything has used it.
 * @throws ConfigError if `tasks` is not an application of this version
 */
export function placeOn(tasks: unknown, source: StoreSource): void {
  const app = appOf(tasks);
  const { binding } = app;
  rebind(app, { ...binding, backends: new Map([...binding.backends, ['default', makeBackend(binding.host, source)]]) });
}
