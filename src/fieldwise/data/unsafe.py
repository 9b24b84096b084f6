"""Rows that are toxic or unsafe to learn from, by words and patterns of our own: rows to look at, never rows to drop.

What is looked for is a wish or a deed, not a subject: fields where wounds, poisons, drugs, suicide and crimes are the
daily work write about all of them. So "suicide risk", "how to report fraud" and "cocaine use disorder" stay silent,
and "how do I make a pipe bomb" does not. A list knows few ways to say a thing: what it finds deserves a look, what it
does not find is not thereby safe (docs/data.md gives figures for both). English only.
"""

from __future__ import annotations

import codecs
import re
from typing import Literal, get_args

Category = Literal["hate", "abuse", "violence", "self_harm", "sexual", "weapons", "drugs", "crime", "override"]
CATEGORIES: tuple[Category, ...] = get_args(Category)
_MAX_CHARS = 20_000
_WORDS = re.compile(r"[a-z]+")
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
_BEHIND_CHARS = 300
_PLAIN = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "‐": "-", "‑": "-"})

_ONE = r"(?:someone|somebody|anyone|people|persons?|humans?|(?:an?|the|my|your|his|her|our|their|this|that|these|those|every|all|some|other) (?:\w+ )?(?:man|men|woman|women|girl|boy|wife|husband|spouse|partner|ex|girlfriend|boyfriend|child|children|kid|kids|baby|boss|colleague|co-?worker|neighbou?rs?|teacher|classmates?|student|friend|enem(?:y|ies)|roommate|mother|father|parents?|brother|sister|family|person|people|officer|police|president|politician|senator|guard|patient|crowd|passengers|civilians?|employees?)|him|her|them|myself|yourself|me|you)"
_GROUP = r"(?:jews?|jewish people|muslims?|arabs?|blacks?|black people|africans?|asians?|asian people|mexicans?|latinos?|immigrants?|migrants?|refugees?|gays?|gay people|homosexuals?|lesbians?|trans(?:gender)? people|transgenders?|women|gypsies|roma|christians|hindus|foreigners|disabled people|white people|whites|the homeless|homeless people)"
_LOW = r"(?:vermin|animals?|sub-?humans?|parasites?|cockroach(?:es)?|rats?|inferior|filth|filthy|savages?|scum|trash|garbage|disgusting|evil|criminals?|terrorists?|a (?:plague|disease|cancer)|worthless|stupid|less intelligent|not human)"


_ASK = re.compile(
    r"\bhow (?:do|does|can|could|would|should|might|may|did|to|best to)\b|\b(?:ways?|methods?|means|tips|tricks|techniques?|steps?|tutorial|guide|instructions?|recipe|manual|plan|ideas?|strateg(?:y|ies)|advice|blueprint|script|program|code|tool|app|place) (?:for|to|on|that|which|of|about)\b"
    r"|\b(?:teach|show|tell|help|let|give) (?:me|us|people|others|someone)\b|\bi(?:'m| am)? (?:want|need|wish|plan|planning|intend|trying|going|would like)(?: to)?\b|\bi'd like to\b|\bwhere can i\b|\bwhat(?:'s| is| are) (?:the |some |a )?(?:\w+ )?(?:ways?|methods?|steps)\b"
    r"|^\W*(?:please |can you |could you |would you |i want you to )?(?:write|create|generate|compose|draft|develop|design|devise|give|provide|explain|describe|list|outline|suggest|propose|offer|plan|build|make|produce|publish|post|hack|exploit|manipulate|use|demonstrate|instruct|convince|persuade|encourage|promote|synthesi[sz]e|invent|forge|steal|act|pretend|discuss)\b"
)
_VETO = re.compile(r"\b(?:prevent|avoid|detect|report|recogni[sz]|identif|treat|stop|protect|reduc|respond|counter(?!f)|guard|combat|diagnos|screen|assess|investigat|mitigat|defend|comply|deter|spot|educat|victim|if|whether|happens when|fight|secur|safe from|survivor|history|symptom|therap|patients? (?:who|with)|risk of|prosecut|convict|penalt|punish|definition|statistics|awareness|policy on)")  # fmt: skip
"""Words between a wish and a deed that make it another wish: to prevent it, to treat whom it befell, to know its law."""

_MAKE = r"(?:build|mak(?:e|ing)|assembl\w+|construct\w*|creat(?:e|ing)|synthesi[sz]\w*|produc(?:e|ing)|cook\w*|manufactur\w*|cultivat\w*|weaponi[sz]\w*|extract\w*|grow\w*|obtain\w*|acquir\w*|buy\w*|get(?:ting)?|smuggl\w*|3d[- ]print\w*|improvis\w*|purif\w*|enhanc\w*|convert\w*|sell\w*|deal(?:ing)?|plant\w*|set(?:ting)? off|detonat\w*|distribut\w*|use|using|releas\w*|spread\w*|find|dispers\w*|aerosoli[sz]\w*)"
_HURT = r"(?:kill(?:ing)?|murder(?:ing)?|poison(?:ing)?|strangl(?:e|ing)|suffocat(?:e|ing)|stab(?:bing)?|assassinat(?:e|ing)|tortur(?:e|ing)|kidnap(?:ping)?|abduct(?:ing)?|lynch(?:ing)?|maim(?:ing)?|behead(?:ing)?|rap(?:e|ing)|molest(?:ing)?|shoot(?:ing)?(?: up)?|harass(?:ing)?|bully(?:ing)?|intimidat(?:e|ing)|humiliat(?:e|ing)|set fire to|drown(?:ing)?|annihilat(?:e|ing)|slander(?:ing)?|threaten(?:ing)?|blackmail(?:ing)?|drugg?(?:ing)?|injur(?:e|ing)|euthani[sz]e|do away with|get rid of)"
_WEAPON = r"(?:(?:pipe |car |nail |dirty |letter |fertili[sz]er |home-?made |nuclear |suicide |petrol |time )?bombs?|explosives?|explosive devices?|ieds?|molotov(?: cocktail)?s?|grenades?|land ?mines?|detonators?|napalm|thermite|tatp|nitroglycerine?|anfo|sarin|vx(?: gas)?|tabun|soman|novichok|nerve agents?|nerve gas|mustard gas|chlorine gas|phosgene|ricin|anthrax|botulinum(?: toxin)?|smallpox|chemical weapons?|biological weapons?|bioweapons?|poison(?:ous)? gas(?:es)?|hydrogen cyanide|ghost guns?|(?:untraceable|home-?made|illegal|unregistered|3d[- ]printed) (?:guns?|firearms?|weapons?)|(?:gun )?silencers?|fully automatic|weapons? of mass destruction|incendiary devices?)"
_DRUG = r"(?:crystal meth|meth|methamphetamines?|crack(?: cocaine)?|cocaine|heroin|mdma|ecstasy|lsd|carfentanil|dmt|ghb|pcp|krokodil|flakka|magic mushrooms|illegal (?:drugs|substances)|illicit drugs|(?:date[- ]rape|party|hard|street) drugs?|rohypnol|hallucinogens|drugs illegally)"

_DEEDS: tuple[tuple[Category, re.Pattern[str]], ...] = (
    ("violence", re.compile(rf"\b{_HURT} {_ONE}\b|\b{_HURT} (?:his|her|their|my|your|\w+'s) (?:wife|husband|children|family|life)\b|\b(?:school|mass) shootings?\b|\bterror(?:ist)? attacks?\b|\b(?:commit|plan|carry out|organi[sz]e|stage|incite|get away with|hire)\w* (?:an? |the |my )?(?:\w+ )?(?:murder|assassination|massacre|kidnapping|genocide|rape|riot|riots|hit ?man|violence|arson|treason|terrorism|terrorist)\b|\b(?:blow up|burn down) (?:an? |the |my )(?!balloon|tyre|tire|photo|picture|image|mattress|bubble|candle)|\b(?:terminate|end|take) (?:\w+ )?(?:wife's|husband's|someone's|his|her|their|another person's) life\b|\bdeath threats?\b|\bincites? (?:violence|people)\b|\bcannibali[sz]\w*|\b(?:glorif|romantici[sz]|promot|encourag|justif)\w+ (?:\w+ ){0,2}(?:violence|terrorism|genocide|murder|mass murder|domestic abuse|rape|war crimes|extremis[tm])\b")),
    ("self_harm", re.compile(r"\b(?:kill myself|killing myself|commit(?:ting)? suicide|end my (?:own )?life|hang myself|cut myself|harm myself|starve myself|slit my wrists|suicide methods?)\b|\b(?:promot|encourag|glorif|romantici[sz])\w+ (?:\w+ ){0,4}(?:suicide|self-harm|eating disorders?|anorexia)\b|\bsuicide (?:pact|note)\b")),
    ("sexual", re.compile(r"\b(?:erotic|erotica|pornograph\w+|porn|sexually explicit|smut|nude)\b|\bchild (?:porn\w*|abuse (?:images|material))|\bsex with (?:an? )?(?:minors?|child|children|kid|teen\w*|animals?)\b|\bp(?:a)?edophilia\b|\b(?:explicit|graphic) sex(?:ual)?\b|\brevenge porn\b|\bseduc\w+ (?:an? )?(?:minors?|child|children|teen\w*)\b")),
    ("weapons", re.compile(rf"\b{_MAKE}\b[\w ,'-]{{0,60}}\b{_WEAPON}\b|\b{_WEAPON} (?:at home|from household|from scratch|recipe)\b")),
    ("drugs", re.compile(rf"\b{_MAKE}\b[\w ,'-]{{0,40}}\b{_DRUG}\b|\b(?:production|synthesis|extraction) of {_DRUG}\b|\b(?:promot|encourag|glorif|normali[sz])\w+ (?:\w+ ){{0,3}}(?:drug use|drug abuse|illegal drugs|underage drinking|illicit drugs)\b")),
    (
        "crime",
        re.compile(
            r"\b(?:hack(?:ing|s)?\b|break(?:ing)? into (?!a sweat|smaller|groups|pieces|parts)|brute[- ]forc\w+|crack(?:ing)? (?:a |the |someone'?s? )?(?:passwords?|safe|wi-?fi)|steal(?:ing|s)? (?!second|the (?:show|spotlight|thunder|scene)|a (?:base|kiss|glance)|home|my heart)|shoplift\w*|rob(?:bing)? (?:a|the|my|someone)\b|burgl(?:e|ing|ariz\w+)|hot-?wir\w+|carjack\w*|hijack\w*|counterfeit\w*|forg(?:e|ing) (?:an? |the |my )?(?:\w+ )?(?:documents?|signatures?|prescriptions?|checks?|cheques?|passports?|ids?|certificates?)|launder(?:ing)? money|money laundering|embezzl\w*|evad(?:e|ing) (?:\w+ )?(?:tax(?:es)?|police|arrest|security|detection|customs|law|filter\w*)|extort\w*|traffic(?:king)? (?:humans?|people|women|children|drugs|organs)|human trafficking|defraud\w*|scam(?:ming|s)?\b|swindl\w+|brib(?:e|ing)|rig(?:ging)? (?:an |the )?election|tamper(?:ing)? with|stalk(?:ing)? |dox+(?:ing)?\b|swatting|impersonat\w+|sabotag\w*|destroy(?:ing)? evidence|insider trading|identity theft|credit card fraud|insurance fraud|(?:commit(?:ting)?|get(?:ting)? away with|cover(?:ing)? up) (?:an? |the |my )?(?:\w+ )?(?:crime|fraud|robbery|theft|perjury|crimes|burglary|tax evasion)|dispos(?:e|ing) of (?:a |the )?(?:dead )?bod(?:y|ies))"
            r"|\b(?:malware|ransomware|spyware|key ?loggers?|botnets?|trojan horses?|computer (?:virus(?:es)?|worms?)|(?:virus|worm) that|rootkits?|exploit(?:s|ing|ation)?\b(?: of)? (?:\w+ ){0,2}vulnerabilit\w+|ddos|denial[- ]of[- ]service|backdoors?|phishing|sql injections?|man-in-the-middle attack|password crackers?|ponzi schemes?|pyramid schemes?|spam (?:e-?mails?|messages|bot)|hate mail|smear campaigns?|fake (?:ids?|passports?|invoices?|prescriptions?|diplomas?|reviews?|charit(?:y|ies)|identit(?:y|ies)|licen[cs]es?|certificates?|cheques?|checks?|money|news|(?:social media )?(?:accounts?|profiles?)|online stores?|social security)|false (?:identit(?:y|ies)|documents?|evidence|accusations?|alibis?|information|rumou?rs|tax)|fraudulent\w*|falsely claim|underreport\w*|(?:cheat|cheating) (?:on|in)|illegally|pirated|unauthori[sz]ed access|deepfakes?|bypass\w* (?:security|paywalls?|authentication|drm|filters?)|insider information|(?:spread|promot|publish|writ)\w* (?:\w+ ){0,3}(?:misinformation|disinformation|propaganda|fake news|conspiracy theor\w+|rumou?rs))\b"
            r"|\bwithout (?:getting|being) (?:caught|noticed|detected|arrested)\b|\bwithout (?:their|his|her|the user's|someone's|anyone's|users'?) (?:knowledge|consent|permission|knowing|noticing)\b|\bmanipulat\w+ (?:\w+ ){0,3}(?:elections?|voters?|markets?|stock|financial|search engine|public opinion|someone|people|others)\b|\b(?:damage|ruin|destroy|harm) (?:someone's|a person's|his|her|their|people's) (?:reputation|career|life)\b"
        ),
    ),
    ("hate", re.compile(r"\b(?:racist|sexist|homophobic|anti-?semitic|islamophobic|xenophobic|transphobic|derogatory|white supremac\w+|neo-?nazi|hateful|hate)(?: \w+)? (?:jokes?|slurs?|speech|comments?|essays?|posts?|propaganda|manifestos?|messages?|letters?|tweets?|insults?|arguments?|songs?|content|mail|articles?|crimes?|groups?)\b|\b(?:discriminat\w+ against|harass|dehumani[sz]\w+|insult\w*|inferior\w*|superior\w* (?:of|to)) [\w ,]{0,30}\b" + _GROUP + r"\b")),
)  # fmt: skip
"""What counts where it stands behind a wish, in the same sentence."""

_SAID: tuple[tuple[Category, re.Pattern[str]], ...] = (
    ("hate", re.compile(rf"\b(?:all|most|those|these|the|why (?:are|do)) {_GROUP} (?:are|should be|deserve to be|must be|need to be|ought to be)(?: all| just| nothing but| naturally| simply)? (?:{_LOW}|killed|exterminated|deported|shot|hanged|gassed|eliminated|wiped out)\b|\bi (?:hate|despise|can't stand) (?:all )?{_GROUP}\b|\b(?:heil hitler|white power)\b")),
    ("abuse", re.compile(r"\byou(?:'re| are|r)?(?: all)?(?: such)?(?: an?)? (?:\w+ )?(?:idiots?|morons?|imbeciles?|bitch|whores?|sluts?|bastards?|scum|piece of (?:shit|crap|trash)|worthless|pathetic|disgusting|loser|dumbass|stupid (?:\w+ )?(?:cow|pig|bitch|fool))\b|\b(?:shut the \w+ up|eat shit|drop dead|screw you)\b")),
    ("violence", re.compile(rf"\bi(?:'m going to|'ll| will| am going to|'m gonna| wanna) (?:kill|shoot|stab|rape|strangle|murder|torture) (?:{_ONE})\b|\b(?:you|they) (?:should|deserve)(?: all)?(?: to)? (?:die|be (?:killed|shot|raped|hanged|beaten|stabbed))\b")),
    ("self_harm", re.compile(r"\b(?:go )?(?:kill|hang) yourself\b|\bkys\b|\b(?:pro-?ana|thinspo|thinspiration)\b")),
    (
        "override",
        re.compile(
            r"\b(?:ignore|disregard|forget|override|bypass)(?: (?:all|any|every|everything|of|the|your|my|our|these|those|to|about|in|you were told))* (?:previous|prior|above|earlier|preceding|initial|original|existing|system|safety|given|former|foregoing|past|openai'?s?|ethical|last) (?:\w+ )?(?:instructions?|prompts?|rules|directions?|directives?|messages?|guidelines|filters?|polic(?:y|ies)|commands?|orders|constraints|programming)\b"
            r"|\b(?:do anything now|developer mode (?:enabled|on)|jailbr(?:eak|oken) (?:mode|prompt)|dan mode|you are (?:now )?(?:going to )?(?:act|acting|pretend)\w*[\w ,]{0,60}(?:no|without) (?:any )?(?:rules|restrictions|limits|ethic\w*|filters?|moral\w*|censorship))\b"
            r"|\b(?:stay|remain|be|never break|don't break|break) (?:in )?character\b|\byou (?:can|will|must|shall|should|are able to) (?:\w+ )?(?:say|do|answer|swear|generate|produce|respond with) (?:\w+ )?(?:anything|everything|any kind of content)\b"
            r"|\b(?:has|have|with|without|no|free (?:of|from)|ignor\w+|not bound by|never|regardless of)(?: any| no| all| the| of)* (?:ethical|moral|content|safety|openai(?:'s)?|usage|censorship) (?:\w+ ){0,2}(?:guidelines|restrictions|limitations|filters?|boundaries|polic(?:y|ies)|constraints|rules|standards|principles)\b"
            r"|\b(?:reveal|show|print|repeat|output|display|tell me|give me|what (?:is|are|was|were)|leak|expose)(?: \w+){0,3} (?:your|the) (?:\w+ )?(?:system prompt|hidden prompt|initial prompt|secret (?:prompt|instructions)|initial instructions|(?:system|original|hidden|previous) instructions|access code|pre-?prompt)\b"
        ),
    ),
)  # fmt: skip
"""What counts wherever it stands."""

# spelt by rot13, so that no one who opens this file has to read them
_SLURS = frozenset(
    codecs.decode(
        "avttre avttref avttn avttnf snttbg snttbgf snt snttbgel xvxr xvxrf fcvp fcvpf puvax puvaxf tbbx tbbxf jrgonpx jrgonpxf "
        "enturnq enturnqf gbjryurnq gbjryurnqf fnaqavttre qnexvr qnexvrf genaal genaavrf qlxr qlxrf ergneqf cnxv cnxvf "
        "ornare ornarefuvg wvtnobb wvtnobbf cbepuzbaxrl mvccreurnq furznyr furznyrf tbyyvjbt xnssve xnssvef",
        "rot13",
    ).split()
)
_SWEARING = frozenset("fuck fucks fucked fucker fuckers fucking fuckin motherfucker motherfuckers motherfucking cunt cunts asshole assholes arsehole arseholes bitches wanker wankers twat dickhead dickheads cocksucker shithead".split())  # fmt: skip
_OBSCENE = frozenset("porn porno hentai blowjob blowjobs handjob handjobs cumshot gangbang milf deepthroat creampie bukkake dildo dildos bdsm fellatio cunnilingus jizz titties masturbating threesome".split())  # fmt: skip

_VOCABULARIES: tuple[tuple[Category, frozenset[str]], ...] = (
    ("hate", _SLURS),
    ("abuse", _SWEARING),
    ("sexual", _OBSCENE),
)
_HINT_CHARS = 4
# beginnings of words without which no pattern can fit: most rows have none, and patterns are slow
_DEED_HINTS = frozenset(
    "kill gun guns caug noti dete arre cons murd pois stra suff stab assa tort kidn abdu lync maim behe rape rapi mole shoo hara bull inti humi fire drow anni slan "
    "thre blac drug inju euth rid mass scho terr geno riot hit hitm viol arso blow burn life deat cann glor roma prom "
    "enco extr myse suic self eati anor wris erot porn expl smut nude sex paed pedo reve sedu bomb ied ieds molo gren "
    " deto napa tatp nitr anfo sari vx tabu soma novi nerv must chlo phos rici anth botu weap biow cyan ghos untr "
    "ille unre prin sile ince meth crac coca hero mdma ecst lsd carf dmt ghb pcp krok flak mush subs illi rohy hall "
    "hack brea brut stea shop rob robb burg hot hotw carj hija coun forg laun mone embe evad extr extort exto traf defr scam swin brib rig "
    "riggi rigg tamp stal dox doxx swat impe sabo dest insi iden thef cred frau crim perj evas dead bodi malw rans spyw key keyl botn troj "
    "viru worm root ddos deni back phis sql man pass ponz pyra spam hate smea fake fals chea pira unau deep bypa mani "
    "dama ruin harm repu prop misi disi cons rumo raci sexi homo anti semi isla xeno dero whit neo nazi disc dehu insu supe".split()
)
_SAID_HINTS: dict[Category, frozenset[str]] = {
    "hate": frozenset("jews jewi musl arab blac afri asia mexi lati immi migr refu gays gay homo lesb tran wome gyps roma chri hind fore disa whit home heil".split()),
    "abuse": frozenset("idio moro imbe bitc whor slut bast scum piec wort path disg lose dumb stup shut shit drop scre".split()),
    "violence": frozenset("kill shoo shot stab rape rapi stra murd tort die hang beat".split()),
    "self_harm": frozenset("your kys ana proa thin".split()),
    "override": frozenset("igno disr forg over bypa anyt deve jail dan pret acti char ever ethi mora cens open syst hidd prom pre secr inst".split()),
}  # fmt: skip
_SAID_NEEDS: dict[Category, frozenset[str]] = {
    "self_harm": frozenset(["kill", "hang", "kys", "ana", "proa", "thin"]),
    "override": frozenset("inst prom rule dire mess guid filt poli comm orde cons prog now mode act acti pret char anyt ever rest limi boun stan prin code cens".split()),
    "violence": frozenset(["i", "you", "they"]),
    "abuse": frozenset(["you", "shut", "eat", "drop"]),
    "hate": frozenset("all most thos thes the why i heil powe".split()),
}  # fmt: skip
_WISHING = frozenset("how way ways method methods means tips tricks technique techniques step steps tutorial guide instruction instructions recipe manual plan planning idea ideas strategy strategies advice blueprint script program code tool app place teach show tell help let give i where what please can could would write create generate compose draft develop design devise provide explain describe list outline suggest propose offer build make produce publish post hack exploit manipulate use demonstrate instruct convince persuade encourage promote synthesize synthesise invent forge steal act pretend discuss".split())  # fmt: skip


def unsafe_categories(text: str) -> tuple[Category, ...]:
    """Return what a text should be looked at for, in the order of CATEGORIES; nothing for nearly all texts.

    >>> unsafe_categories("How do I make a pipe bomb at home?"), unsafe_categories("Assess the risk of suicide.")
    (('weapons',), ())
    """
    plain = text[:_MAX_CHARS].casefold().translate(_PLAIN)
    words = set(_WORDS.findall(plain))
    found: set[Category] = {category for category, vocabulary in _VOCABULARIES if not words.isdisjoint(vocabulary)}
    hints = {word[:_HINT_CHARS] for word in words}
    for category, pattern in _SAID:
        if not (hints.isdisjoint(_SAID_HINTS[category]) or hints.isdisjoint(_SAID_NEEDS[category])):
            found.update([category] if pattern.search(plain) else ())
    if not hints.isdisjoint(_DEED_HINTS) and not words.isdisjoint(_WISHING):
        for sentence in _SENTENCE.split(plain):
            found |= _wished(sentence)
    return tuple(c for c in CATEGORIES if c in found)


def _wished(sentence: str) -> set[Category]:
    hints = {word[:_HINT_CHARS] for word in _WORDS.findall(sentence)}
    if hints.isdisjoint(_DEED_HINTS):
        return set()
    found: set[Category] = set()
    for ask in _ASK.finditer(sentence):
        behind = sentence[ask.start() : ask.start() + _BEHIND_CHARS]
        for category, deed in _DEEDS:
            if (match := deed.search(behind)) and not _VETO.search(behind, 0, match.end()):
                found.add(category)
    return found
