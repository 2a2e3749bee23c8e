"""Spanish: the words and sentences of the demo corpus, fewer than the English ones. See [`Grammar`]."""

from datasets_scripts.demo_grammar import Grammar, words_of


_LEXICONS = {
    "nombre": words_of(
        "alejandro, beatriz, carlos, daniela, elena, fernando, gabriela, hugo, inés, javier, lucía, mateo, nuria, "
        "óscar, pilar, raúl, sofía, tomás, valeria, ximena, álvaro, belén, íñigo, begoña"
    ),
    "juego": words_of(
        "ciudad de bloques, guerra de castillos, isla del dragón, misión océano, arena de robots, jardín mágico, "
        "carreras del cielo, mineros del espacio"
    ),
    "lugar": words_of(
        "puente, puerto, castillo, mercado, río, bosque, garaje, estadio, jardín, pueblo, faro, parque, museo, cañón"
    ),
    "cosa": words_of(
        "escudo, casco, martillo, mapa, barco, piano, cristal, arco, paraguas, balón, cuaderno, sombrero, muñeco"
    ),
    "adjetivo": words_of("dorado, pequeño, brillante, azul, roto, pesado, nuevo, extraño, antiguo"),
    "cuando": words_of(
        "esta noche, después de cenar, el viernes, este sábado, por la mañana, a mediodía, más tarde, el domingo"
    ),
    "comida": words_of("pizza, sopa, ensalada, arroz, galletas, tostadas, lentejas, churros, piña"),
    "animal": words_of("perro, gato, caballo, loro, conejo, pingüino, hámster, ñandú"),
    "evento": words_of("partido, torneo, concierto, concurso, combate, desafío"),
    "número": words_of("dos, tres, cuatro, cinco, seis, siete, ocho, nueve, doce, veinte"),
    "color": words_of("rojo, verde, blanco, negro, rosa, amarillo, gris"),
    # Invented, for the Racist class; near-misses use them too, so that the names alone mean nothing.
    "gente": words_of("morvianos, quendaros, yeltanos, brozitas, ulmarios"),
    "país": words_of("morvia, quendar, yelta, brozia, ulmaria"),
}

_CUES = {
    "Profanity": (
        "vete {al infierno|al cuerno|a freír espárragos}",
        "maldito sea este {cosa}",
        "qué demonios {es esto|haces|pasa aquí}",
        "me importa un pimiento tu {cosa}",
        "vaya porquería de {evento}",
    ),
    "DatingAndSexting": (
        "mándame una foto tuya {en la cama|sin camiseta|ahora}",
        "ven {solo|sola} a mi casa {cuando}",
        "qué llevas puesto {ahora|debajo}",
        "quiero besarte {cuando}",
        "enciende la cámara y baila para mí",
    ),
    "Racist": (
        "los de tu clase que vuelvan a {país}",
        "aquí no servimos a los {gente}",
        "los {gente} no son bienvenidos {aquí|en este servidor}",
        "todos los {gente} {mienten|roban|huelen mal}",
        "no te fíes de nadie de {país}",
    ),
    "Bullying": (
        "nadie te quiere {aquí|en este equipo}",
        "borra el juego",
        "todos te odian",
        "arruinas cada {evento}",
        "nos reímos de ti {a tus espaldas|todo el día}",
        "vete a llorar con tu madre",
    ),
    "Other": (
        "te vendo unas {pastillas|hierbas} {cuando}",
        "conduje borracho {otra vez|anoche}",
        "vamos a quemar el {lugar}",
        "te consigo un carné falso para el {bar|casino}",
        "trágate todas estas pastillas",
    ),
}

_TEMPLATES = {
    "carrier": {
        "train": (
            "oye {nombre}, {content}",
            "{content}, {nombre}",
            "bueno, {content}",
            "escucha, {content}",
            "espera {nombre}, {content}, en serio",
            "ya le dije a {nombre}, {content}",
            "chicos, {content}",
            "se me oye, {content}",
            "tenía el micrófono apagado, decía que {content}",
            "una vez más, {content}",
            "ya estoy de vuelta, {content}",
            "por cierto, {content}",
            "antes de que empiece el {evento}, {content}",
            "sí {nombre}, {content}",
            "perdón por la espera, {content}",
            "desde el {lugar} os digo, {content}",
        ),
        "validation": (
            "eh {nombre}, {content}",
            "{content}, amigo mío",
            "atención, {content}",
            "gente, {content}",
            "ahora sí, {content}",
            "{content}, eso creo yo",
        ),
        "test": (
            "disculpa {nombre}, {content}",
            "{content}, a todos",
            "en fin, {content}",
            "un momento, {content}",
            "equipo, {content}",
            "probando, probando, {content}",
            "para que lo sepas, {content}",
        ),
    },
    "benign": {
        "train": (
            "nos vemos en el {lugar} {cuando}",
            "encontré un {cosa} {adjetivo} cerca del {lugar}",
            "necesitamos {número} jugadores más para el {evento}",
            "vamos a jugar a {juego} {cuando}",
            "quién se llevó el {cosa} {color} del cofre",
            "mi {animal} está durmiendo en el teclado",
            "el {evento} empieza en {número} minutos",
            "hoy ceno {comida}",
            "pulsa el botón {color} junto a la puerta",
            "ha sido un gran {evento}, bien jugado",
            "cómo llego al {lugar} desde aquí",
            "te cambio mi {cosa} por tu {cosa}",
            "me tengo que ir, hasta {mañana|luego|el lunes}",
            "espérame en el {lugar} por favor",
            "acabo de subir al nivel {número} en {juego}",
            "quieres un poco de {comida}",
            "el servidor se reinicia {cuando}",
            "a mi {animal} le gusta el {animal} de {nombre}",
            "hoy juegas muy rápido",
            "gracias por el {cosa}, me ayuda mucho",
            "cuidado, hay un {animal} en el camino",
            "mi conexión va lenta {cuando}",
            "sigue la línea hasta el {lugar}",
            "me encanta esta canción",
            "puedes quedarte con el {cosa} {adjetivo}",
            "buen tiro",
            "escondámonos detrás del {lugar}",
            "conseguimos {número} puntos en el {evento}",
            "gira a la izquierda en el {lugar} y salta",
            "mi hermana nos hizo {comida}",
            "el mapa nuevo tiene un {lugar} y un {lugar}",
            "alguien puede abrir la puerta",
            "se me cayó el {cosa} al agua",
            "deberíamos practicar para el {evento} {cuando}",
            "dale el {cosa} a {nombre}",
            "por qué está tan lejos el {lugar}",
            "baja un poco la música",
            "hoy ha sido tu cumpleaños, felicidades",
        ),
        "validation": (
            "caminamos al {lugar} {cuando}",
            "alguien dejó un {cosa} {adjetivo} junto al {lugar}",
            "el {evento} termina en {número} minutos",
            "mi {animal} se acaba de bañar",
            "estamos cocinando {comida} {cuando}",
            "lo hiciste genial en ese {evento}",
            "por dónde se va al {lugar}",
            "trae tu {cosa} al {lugar}",
            "buena partida",
            "jugaría a {juego} todo el día",
        ),
        "test": (
            "quedamos junto al {lugar} {cuando}",
            "has visto mi {cosa} {adjetivo}",
            "faltan {número} minutos para el {evento}",
            "tu {animal} es muy bonito",
            "probaste la nueva versión de {juego}",
            "para comer tenemos {comida}",
            "el equipo {color} gana el {evento}",
            "pon el {cosa} en la caja {color}",
            "mañana no puedo, tengo clase",
            "qué bien juegas a {juego}",
            "el camino al {lugar} está cerrado",
            "pásame el {cosa} {color} por favor",
        ),
    },
    "near-miss": {
        "train": (
            "los {gente} construyeron un {lugar} muy bonito",
            "quiero viajar a {país} {cuando}",
            "mándame una foto de tu {animal}",
            "vamos a encender la cámara del {lugar}",
            "tomo mis pastillas para la tos {cuando}",
            "nadie se ríe de tu {cosa}",
            "en la escuela leímos sobre los {gente} de {país}",
        ),
        "validation": (
            "los {gente} ganaron el {evento}",
            "mi abuela nació en {país}",
            "todos te esperan en el {lugar}",
        ),
        "test": (
            "los {gente} son muy amables",
            "el tren a {país} sale {cuando}",
            "mándame el mapa del {lugar}",
            "todos quieren venir a tu {evento}",
        ),
    },
    "quote": {
        "train": (
            "aquí no se dice {keyword}",
            "el profesor me regañó por decir {keyword}",
            "el filtro bloquea la palabra {keyword}",
            "no uses la palabra {keyword} en el chat",
            "qué significa la palabra {keyword}",
            "te expulsan si dices {keyword}",
        ),
        "validation": (
            "la palabra {keyword} va contra las normas",
            "por favor no digas {keyword} aquí",
            "prohibieron la palabra {keyword}",
        ),
        "test": (
            "mi abuelo dice que nunca digamos {keyword}",
            "al filtro no le gusta la palabra {keyword}",
            "no está permitido decir {keyword} en este juego",
            "cómo se escribe la palabra {keyword}",
        ),
    },
    "exclamation": {
        "train": (
            "{keyword}, he perdido otra vez",
            "ay {keyword}, el {lugar} no",
            "{keyword}, eso duele",
            "{keyword}, quién hizo eso",
            "{keyword}, se acabó el {evento}",
            "{keyword}, ha vuelto el {animal}",
            "{keyword}, qué difícil es esto",
        ),
        "validation": (
            "{keyword}, me caí del {lugar}",
            "ah {keyword}, demasiado tarde",
            "{keyword}, qué ha pasado",
        ),
        "test": (
            "{keyword}, estamos perdiendo",
            "ah {keyword}, ese {cosa} no",
            "{keyword}, dónde está mi {cosa}",
            "{keyword}, ahora no",
        ),
    },
    "insult": {
        "train": (
            "eres un {keyword}",
            "qué {keyword} eres",
            "deja de portarte como un {keyword}",
            "{nombre} no es más que un {keyword}",
            "juegas como un {keyword}",
            "fuera de aquí, {keyword}",
            "ese {keyword} me robó el {cosa}",
        ),
        "validation": (
            "solo eres un {keyword}",
            "que alguien eche a ese {keyword}",
            "este {keyword} rompió mi {cosa}",
        ),
        "test": (
            "eres un completo {keyword}",
            "mirad a este {keyword}",
            "conduces como un {keyword}",
            "devuélvelo, {keyword}",
        ),
    },
    "substance": {
        "train": (
            "tengo {keyword} en el {lugar}",
            "quieres comprar {keyword}",
            "consígueme {keyword} {cuando}",
            "trae la {keyword} a la fiesta",
            "mi primo esconde {keyword} en la cocina",
        ),
        "validation": (
            "véndeme {keyword} {cuando}",
            "hay {keyword} detrás del {lugar}",
            "compartimos la {keyword} en el {evento}",
        ),
        "test": (
            "necesito {keyword} ya",
            "guardo la {keyword} bajo el {lugar}",
            "quién vende {keyword} por aquí",
            "te llevo {keyword} {cuando}",
        ),
    },
    "topic": {
        "train": (
            "hablamos de {keyword} {cuando}",
            "solo pienso en {keyword}",
            "quieres {keyword} conmigo {cuando}",
            "vi {keyword} en tu cámara",
            "me gusta el {keyword} en directo",
        ),
        "validation": (
            "busco {keyword} {cuando}",
            "háblame de {keyword}",
            "todo es {keyword} en este {lugar}",
        ),
        "test": (
            "quiero {keyword} ahora mismo",
            "{nombre} me habló de {keyword}",
            "nos falta {keyword} {cuando}",
            "enséñame {keyword} en privado",
        ),
    },
    "command": {
        "train": (
            "{keyword} de una vez",
            "{keyword} ya, {nombre}",
            "que {keyword}, te digo",
            "por qué hablas, {keyword}",
            "{keyword} y juega",
        ),
        "validation": ("{keyword} un rato", "he dicho que {keyword}", "mejor {keyword} ahora"),
        "test": (
            "{keyword} y escucha",
            "{keyword} por favor, {nombre}",
            "nadie te preguntó, {keyword}",
            "tú {keyword}",
        ),
    },
}

_FORMS = {
    "insult": words_of("idiota, imbécil, inútil, zorblón, brañuzo, jexolo, quelvoto, terrorista"),
    "substance": words_of("cocaína, marihuana, metanfetamina"),
    "topic": words_of("sexo, porno, desnudos, tetas"),
    "command": words_of("cállate"),
}

SPANISH = Grammar(
    lexicons=_LEXICONS,
    cues=_CUES,
    cue_weights={"Profanity": 1, "DatingAndSexting": 1, "Racist": 1, "Bullying": 1, "Other": 1},
    templates=_TEMPLATES,
    forms={keyword: form for form, keywords in _FORMS.items() for keyword in keywords},
    connectives=(", ", " y ", ". ", ", así que ", ", pero "),
)
