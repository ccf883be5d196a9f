/** HTTP clients in tasks. */
import 'escapement/testing';
import { httpCases } from './cases/http.ts';
import { matrix } from './matrix.ts';

matrix(httpCases);
