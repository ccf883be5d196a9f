/** Node's own HTTP modules, WebSockets and sockets in tasks. */
import 'escapement/testing';
import { protocolCases } from './cases/http.ts';
import { matrix } from './matrix.ts';

matrix(protocolCases);
