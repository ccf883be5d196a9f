/**
 * Escapement: background tasks for TypeScript that can be tested in virtual time.
 *
 * Terms: a **task** is a named definition; a **job** is one enqueued call of it, one row in a store; an **attempt** is one try at a job; a
 * **TaskResult** is a caller's view of a job; a **queue** is a named line of jobs. A **worker** **claims** jobs: it takes a **lease** with
 * a number (the fencing token), runs the attempt, and **settles** it by recording its outcome. A **schedule** creates a job for each of its
 * **occurrences**. An **orphan** is a job whose lease has ended without an outcome. A **backend** is what a task is enqueued to; a
 * **store** is where a backend with an engine keeps its rows.
 */
import './ports/node-version.ts';

export type { BackendSource } from './backends/dummy.ts';
export { dummy } from './backends/dummy.ts';
export { immediate } from './backends/immediate.ts';
export type { Backoff, BackoffFunction, BackoffInput } from './core/backoff.ts';
export { exponential, fixed, linear, list } from './core/backoff.ts';
export type { StepContext, StepOptions, TaskContext, TaskLog, TaskMetadata, WaitOptions } from './core/definition.ts';
export type { Duration, Instant } from './core/duration.ts';
export * from './core/errors.ts';
export type { Event, EventMap, EventName, LogLevel } from './core/events.ts';
export type { ErrorDetails, RecordedError } from './core/failure.ts';
export { depStatus } from './core/job.ts';
export type { Cancel, ResultOf, Snooze } from './core/outcomes.ts';
export type { DepStatus, Job, Status } from './core/types.ts';
export type { HoldingStatus, OnConflict } from './core/unique.ts';
export type { TaskDescription } from './describe.ts';
export type { AttemptMiddleware } from './engine/around.ts';
export { cancel, failCurrentAttempt, snooze } from './engine/control.ts';
export type { Logger } from './engine/host.ts';
export type { EnqueueMiddleware, EnqueueRequest } from './hooks.ts';
export type { JobSelection, Jobs, LimitUse, Queues, WorkerInfo, Workers } from './operations.ts';
export type {
  AtOptions,
  CronOptions,
  EveryOptions,
  Occurrence,
  SavedScheduleOptions,
  ScheduleOptions,
  SunOptions,
  TimingOptions,
  TriggerOptions,
} from './options/schedule.ts';
export type {
  ConcurrencyOptions,
  EditOptions,
  IsolateOptions,
  JobOptions,
  QueueOptions,
  RateOptions,
  RetentionOptions,
  RetryOptions,
  UniqueOptions,
  UsingOptions,
} from './options/types.ts';
export type { BackendSupports } from './ports/backend.ts';
export type { QueueStats, Store, StoreSource } from './ports/store.ts';
export type { AttemptFailure, AttemptInfo, LogEntry, ResultProgress, StepInfo } from './result.ts';
export { TaskResult } from './result.ts';
export type { ScheduleInfo, Schedules } from './schedules.ts';
export { memory } from './stores/memory/index.ts';
export type { EnqueueOptions, PortableTask, SyncTransaction, Task } from './task.ts';
export type { BackendOperations, CreateTasksOptions, SignalOptions, Tasks } from './tasks.ts';
export { createTasks, task } from './tasks.ts';
export type { TaskWorker, WorkerOptions } from './worker.ts';
export type { PartContext } from './workflow/context.ts';
export type { Flow, OutputOf, PartHandle, Piece, WorkflowBuilder, WorkflowOptions, Workflows } from './workflow/flow.ts';
export type { WorkflowResult, WorkflowStatus } from './workflow/result.ts';
export type { PartOptions, Signature } from './workflow/signature.ts';
