/** A simulation, bundled with the package as CommonJS. Exits with 1 if it fails. */
import { createTasks, memory } from 'escapement';
import { simulate } from 'escapement/testing';

async function main() {
  const tasks = createTasks({ backend: memory() });
  const greet = tasks.define('greet', (name: string) => `Hello, ${name}`);
  const sim = await simulate(tasks);
  await greet.using({ runAfter: '1h' }).enqueue('Ada');
  await sim.runUntilIdle();
  if (sim.attempts(greet).length !== 1) throw new Error(String(sim.timeline()));
  await sim.end();
}
void main();
