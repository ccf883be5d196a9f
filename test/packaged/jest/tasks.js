/** A CommonJS test for Jest. */
const { createTasks, memory } = require('escapement');
const { simulate } = require('escapement/testing');
const { sqlite } = require('escapement/sqlite');

const tasks = createTasks({ backend: memory() });
const greet = tasks.define('greet', (name) => `Hello, ${name}`);

test.each([undefined, sqlite({ file: ':memory:' })])('greets in an hour', async (store) => {
  const sim = await simulate(tasks, store ? { store } : {});
  try {
    const result = await greet.using({ runAfter: '1h' }).enqueue('Ada');
    await sim.runUntilIdle();
    await result.refresh();
    expect(result.returnValue).toBe('Hello, Ada');
    expect(sim.attempts(greet)).toHaveLength(1);
  } finally {
    await sim.end();
  }
});
