/**
 * Real work that async hooks do not report: webcrypto, WebAssembly and `Atomics.waitAsync` settle promises inside the JavaScript engine,
 * and a message to a thread is not a request. Their functions are wrapped once, when this module is loaded, to count calls; they behave as
 * before.
 */
import { syncBuiltinESMExports } from 'node:module';
import threads from 'node:worker_threads';
import { real, realKey } from '../ports/real.ts';
import type { Channels } from './channels.ts';

type Method = (this: unknown, ...args: unknown[]) => unknown;

/** @param begun called with work that was started and the promise that ends it */
export function wrapUnseen(begun: (type: string, ended: Promise<unknown>) => void, channels: Channels): void {
  const promised = (type: string, original: Method): Method =>
    function (...args) {
      const answer = Reflect.apply(original, this, args);
      if (answer instanceof Promise) begun(type, answer);
      return answer;
    };
  const subtle = Object.getPrototypeOf(crypto.subtle) as object;
  for (const name of Object.getOwnPropertyNames(subtle)) {
    if (name !== 'constructor') wrap(subtle, name, (original) => promised('webcrypto', original));
  }
  const wasm = (globalThis as { WebAssembly?: object }).WebAssembly;
  if (wasm) {
    for (const name of ['compile', 'instantiate', 'compileStreaming', 'instantiateStreaming'])
      wrap(wasm, name, (original) => promised('WebAssembly', original));
  }
  wrap(
    Atomics,
    'waitAsync',
    (original) =>
      function (...args) {
        const answer = Reflect.apply(original, this, args) as { readonly async: boolean; readonly value: unknown };
        if (answer.async) begun('Atomics.waitAsync', answer.value as Promise<unknown>);
        return answer;
      },
  );
  wrap(
    MessagePort.prototype,
    'postMessage',
    (original) =>
      function (...args) {
        channels.sends(this as object, args[1]);
        return Reflect.apply(original, this, args);
      },
  );
  wrap(
    threads,
    'receiveMessageOnPort',
    (original) =>
      function (...args) {
        const message = Reflect.apply(original, this, args);
        if (message !== undefined) channels.takes(args[0] as object);
        return message;
      },
  );
  syncBuiltinESMExports();
}

/**
 * Vitest loads modules in another process, so an `import()` in a task waits for its answer. No hook reports it, but the calls go through
 * one object.
 * @param asks called with each call and the promise of its answer
 */
export function watchVitest(asks: (type: string, ended: Promise<unknown>) => void): void {
  const worker = (globalThis as { __vitest_worker__?: { rpc?: object } }).__vitest_worker__;
  const rpc = worker?.rpc;
  if (!rpc || watched.has(rpc)) return;
  const get = (target: object, method: string | symbol): unknown => {
    const call: unknown = Reflect.get(target, method);
    if (typeof call !== 'function') return call;
    const counted = (...args: unknown[]): unknown => {
      const answer: unknown = call(...args);
      if (answer instanceof Promise) asks('the test runner', answer);
      return answer;
    };
    return Object.assign(counted, call);
  };
  const wrapper = new Proxy(rpc, { get });
  watched.add(wrapper);
  worker.rpc = wrapper;
}

const watched = new WeakSet<object>();

function wrap(target: object, name: string, make: (original: Method) => Method): void {
  const descriptor = Object.getOwnPropertyDescriptor(target, name);
  const original = real(descriptor?.value as Method | undefined);
  if (typeof original !== 'function' || !descriptor?.configurable) return;
  const replacement = make(original);
  Object.defineProperty(replacement, 'name', { value: original.name });
  Object.defineProperty(replacement, 'length', { value: original.length });
  Object.defineProperty(replacement, realKey, { value: original });
  Object.defineProperty(target, name, { ...descriptor, value: replacement });
}
