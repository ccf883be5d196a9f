/** nock in tasks; in a separate file, because nock and msw cannot be active in one process. */
import 'escapement/testing';
import { nockCases } from './cases/nock.ts';
import { matrix } from './matrix.ts';

matrix(nockCases);
