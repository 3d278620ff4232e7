/** The JSON Schema of a configuration file, made of its table of fields. Draft 2020-12. */
import { isGroup, type Field, type Fields, type Group, type Shape } from './config-fields.ts';
import { formatDuration } from './go-duration.ts';
import type { ConfigKind } from './read-config.ts';

export type JsonSchema = Readonly<Record<string, unknown>>;

export function jsonSchemaOf({ apiVersion, kind, fields }: ConfigKind): JsonSchema {
  const own = schemaOfGroup({ fields });
  return {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    title: kind,
    ...own,
    required: ['apiVersion', 'kind'],
    properties: {
      apiVersion: { const: apiVersion },
      kind: { const: kind },
      ...(own['properties'] as object),
    },
  };
}

function schemaOfGroup({ fields }: Group): JsonSchema {
  return { type: 'object', additionalProperties: false, properties: propertiesOf(fields) };
}

function propertiesOf(fields: Fields): JsonSchema {
  return Object.fromEntries(
    Object.entries(fields).map(([name, entry]) => [
      name,
      isGroup(entry) ? schemaOfGroup(entry) : schemaOfField(entry),
    ]),
  );
}

function schemaOfField({ shape, fallback, help }: Field<unknown>): JsonSchema {
  const value =
    shape.type === 'duration' && typeof fallback === 'number' ? formatDuration(fallback) : fallback;
  return {
    ...schemaOfShape(shape),
    ...(help === '' ? {} : { description: help }),
    ...(value === undefined || value === '' ? {} : { default: value }),
  };
}

function schemaOfShape(shape: Shape): JsonSchema {
  switch (shape.type) {
    case 'boolean':
    case 'number':
      return { type: shape.type };
    case 'integer':
      return { type: 'integer', minimum: shape.min, maximum: shape.max };
    case 'text':
      return { type: 'string', ...(shape.choices && { enum: shape.choices }) };
    case 'duration':
    case 'quantity':
      return { type: 'string' };
    case 'list':
      return { type: 'array', items: schemaOfShape(shape.items) };
    case 'map':
      return { type: 'object', additionalProperties: schemaOfShape(shape.values) };
    case 'object':
      return {
        type: 'object',
        additionalProperties: false,
        required: shape.required,
        properties: Object.fromEntries(
          Object.entries(shape.members).map(([name, member]) => [name, schemaOfShape(member)]),
        ),
      };
  }
}
