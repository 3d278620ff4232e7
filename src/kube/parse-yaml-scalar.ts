/**
 * What a plain value of YAML means to the kubelet. The YAML library's own YAML 1.1 is not used for
 * it: it takes `.`, `-e7` and `e39` for numbers, and `1:30` for ninety.
 * Source: go.yaml.in/yaml/v2 resolve.go, which sigs.k8s.io/yaml v1.6 reads manifests with.
 */
import type { Scalar } from './manifest-node.ts';

const WORDS: ReadonlyMap<string, Scalar> = new Map<string, Scalar>([
  ...['', '~', 'null', 'Null', 'NULL'].map((word) => [word, null] as const),
  ...['y', 'Y', 'yes', 'Yes', 'YES', 'true', 'True', 'TRUE', 'on', 'On', 'ON'].map(
    (word) => [word, true] as const,
  ),
  ...['n', 'N', 'no', 'No', 'NO', 'false', 'False', 'FALSE', 'off', 'Off', 'OFF'].map(
    (word) => [word, false] as const,
  ),
  ...['.nan', '.NaN', '.NAN'].map((word) => [word, NaN] as const),
  ...['.inf', '.Inf', '.INF', '+.inf', '+.Inf', '+.INF'].map((word) => [word, Infinity] as const),
  ...['-.inf', '-.Inf', '-.INF'].map((word) => [word, -Infinity] as const),
]);

const INTEGER = /^([-+]?)(?:0[xX]([0-9a-fA-F]+)|0[bB]([01]+)|0[oO]?([0-7]+)|(0|[1-9][0-9]*))$/;
const FLOAT = /^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$/;

/** Null, a boolean, a number, or else the text itself. */
export function plainValue(text: string): Scalar {
  const word = WORDS.get(text);
  if (word !== undefined) return word;
  if (!/^[-+.0-9]/.test(text)) return text;
  // Underscores are for reading, but not in what begins with a point.
  const plain = text.startsWith('.') ? text : text.replaceAll('_', '');
  const integer = INTEGER.exec(plain);
  if (integer !== null) return integerOf(integer);
  if (!FLOAT.test(plain)) return text;
  const float = Number(plain);
  return Number.isFinite(float) ? float : text;
}

function integerOf([, sign, hex, binary, octal, decimal]: RegExpExecArray): number {
  let size = Number(decimal);
  if (hex !== undefined) size = parseInt(hex, 16);
  else if (binary !== undefined) size = parseInt(binary, 2);
  else if (octal !== undefined) size = parseInt(octal, 8);
  // No negative zero.
  return sign === '-' ? 0 - size : size;
}
