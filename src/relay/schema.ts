/** The JSON Schema (draft 2020-12) of the messages in JSON, from the same table as the codec. */
import { MAJOR, MINOR, SHAPES } from './message.ts';
import type { Shape } from './shape.ts';

type Schema = Readonly<Record<string, unknown>>;

/** One document with a definition for each kind of message. Unknown fields are allowed. */
export function messageSchema(): Schema {
  return {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    title: `limpet messages ${MAJOR}.${MINOR}`,
    $defs: Object.fromEntries(Object.entries(SHAPES).map(([kind, of]) => [kind, schemaOf(of)])),
  };
}

function schemaOf(shape: Shape): Schema {
  const doc = shape.doc === undefined ? {} : { description: shape.doc };
  switch (shape.kind) {
    case 'int':
    case 'number':
      return {
        ...doc,
        type: shape.kind === 'int' ? 'integer' : 'number',
        minimum: shape.min,
        maximum: shape.max,
      };
    case 'text':
      return { ...doc, type: 'string', maxLength: shape.max };
    case 'term':
      return { ...doc, type: 'string', maxLength: shape.max, examples: shape.words };
    case 'uid':
      return { ...doc, type: 'string', maxLength: 64 };
    case 'word':
      return { ...doc, enum: shape.words };
    case 'flag':
      return { ...doc, const: 1 };
    case 'list':
      return { ...doc, type: 'array', maxItems: shape.max, items: schemaOf(shape.of) };
    case 'map':
    case 'row':
      return {
        ...doc,
        type: 'object',
        properties: Object.fromEntries(shape.fields.map((f) => [f.name, schemaOf(f.shape)])),
        required: shape.fields.filter((f) => !f.optional).map((f) => f.name),
      };
  }
}
