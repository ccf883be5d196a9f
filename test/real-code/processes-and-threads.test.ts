/** Child processes and worker threads in tasks. */
import 'escapement/testing';
import { processAndThreadCases } from './cases/processes-and-threads.ts';
import { matrix } from './matrix.ts';

matrix(processAndThreadCases);
